package flightserver.jdbc;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Date;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Struct;
import java.sql.Time;
import java.sql.Timestamp;
import java.util.Base64;
import java.util.Map;

/**
 * JDBC's values as JSON, and back.
 *
 * <p>Null, booleans, integers, doubles, floats and strings are themselves; arrays are lists. Any other value is an object
 * of one member, its class and its text: {@code {"Timestamp": "2026-11-21 00:00:00.0"}}; bytes are {@code {"bytes":
 * base64}} and maps {@code {"Map": {...}}}.
 */
final class Values {
    private Values() {}

    static JsonNode json(final Object value) throws SQLException {
        final ObjectNode tagged = Client.JSON.createObjectNode();
        if (value == null || value instanceof Boolean || value instanceof String || value instanceof Double
                || value instanceof Float || value instanceof Long || value instanceof Integer
                || value instanceof Short || value instanceof Byte) {
            return Client.JSON.valueToTree(value);
        } else if (value instanceof byte[] bytes) {
            tagged.put("bytes", Base64.getEncoder().encodeToString(bytes));
        } else if (value instanceof Array array) {
            return list((Object[]) array.getArray());
        } else if (value instanceof Struct struct) {
            tagged.set("Struct", list(struct.getAttributes()));
        } else if (value instanceof Map<?, ?> map) {
            final ObjectNode members = tagged.putObject("Map");
            for (final Map.Entry<?, ?> member : map.entrySet()) {
                members.set(String.valueOf(member.getKey()), json(member.getValue()));
            }
        } else if (value instanceof Iterable<?> items) {
            final ArrayNode list = Client.JSON.createArrayNode();
            for (final Object item : items) {
                list.add(json(item));
            }
            return list;
        } else {
            tagged.put(value.getClass().getSimpleName().replace("ArrowFlightJdbc", ""), value.toString());
        }
        return tagged;
    }

    private static ArrayNode list(final Object[] items) throws SQLException {
        final ArrayNode list = Client.JSON.createArrayNode();
        for (final Object item : items) {
            list.add(json(item));
        }
        return list;
    }

    static ArrayNode rows(final ResultSet results) throws SQLException {
        final ArrayNode rows = Client.JSON.createArrayNode();
        final int columns = results.getMetaData().getColumnCount();
        while (results.next()) {
            final ArrayNode row = rows.addArray();
            for (int column = 1; column <= columns; column++) {
                row.add(json(results.getObject(column)));
            }
        }
        return rows;
    }

    static ArrayNode columns(final ResultSetMetaData columns) throws SQLException {
        final ArrayNode described = Client.JSON.createArrayNode();
        for (int column = 1; column <= columns.getColumnCount(); column++) {
            described.addObject()
                    .put("name", columns.getColumnName(column))
                    .put("label", columns.getColumnLabel(column))
                    .put("type", columns.getColumnType(column))
                    .put("typeName", columns.getColumnTypeName(column))
                    .put("precision", columns.getPrecision(column))
                    .put("scale", columns.getScale(column))
                    .put("nullable", columns.isNullable(column))
                    .put("catalog", columns.getCatalogName(column))
                    .put("schema", columns.getSchemaName(column))
                    .put("table", columns.getTableName(column));
        }
        return described;
    }

    /** Binds one row: a list of {@code [setter, value]}, where the setter is the X of {@code setX}. */
    static void bind(final PreparedStatement statement, final JsonNode row) throws SQLException {
        for (int place = 1; place <= row.size(); place++) {
            final JsonNode value = row.get(place - 1).get(1);
            final String setter = row.get(place - 1).get(0).asText();
            switch (setter) {
                case "Boolean" -> statement.setBoolean(place, value.asBoolean());
                case "Byte" -> statement.setByte(place, (byte) value.asInt());
                case "Short" -> statement.setShort(place, (short) value.asInt());
                case "Int" -> statement.setInt(place, value.asInt());
                case "Long" -> statement.setLong(place, value.asLong());
                case "Float" -> statement.setFloat(place, (float) value.asDouble());
                case "Double" -> statement.setDouble(place, value.asDouble());
                case "BigDecimal" -> statement.setBigDecimal(place, new BigDecimal(value.asText()));
                case "String" -> statement.setString(place, value.asText());
                case "Bytes" -> statement.setBytes(place, Base64.getDecoder().decode(value.asText()));
                case "Date" -> statement.setDate(place, Date.valueOf(value.asText()));
                case "Time" -> statement.setTime(place, Time.valueOf(value.asText()));
                case "Timestamp" -> statement.setTimestamp(place, Timestamp.valueOf(value.asText()));
                case "Object" -> statement.setObject(place, Client.JSON.convertValue(value, Object.class));
                case "Null" -> statement.setNull(place, value.asInt());
                default -> throw new IllegalArgumentException("no setter is called set" + setter);
            }
        }
    }

    /** What {@code getX} of the row that the cursor is at answers. */
    static JsonNode got(final ResultSet row, final String getter, final String column) throws SQLException {
        return switch (getter) {
            case "Boolean" -> json(row.getBoolean(column));
            case "Byte" -> json(row.getByte(column));
            case "Short" -> json(row.getShort(column));
            case "Int" -> json(row.getInt(column));
            case "Long" -> json(row.getLong(column));
            case "Float" -> json(row.getFloat(column));
            case "Double" -> json(row.getDouble(column));
            case "BigDecimal" -> json(row.getBigDecimal(column));
            case "String" -> json(row.getString(column));
            case "Bytes" -> json(row.getBytes(column));
            case "Date" -> json(row.getDate(column));
            case "Time" -> json(row.getTime(column));
            case "Timestamp" -> json(row.getTimestamp(column));
            case "Array" -> json(row.getArray(column));
            default -> throw new IllegalArgumentException("no getter is called get" + getter);
        };
    }

    static ObjectNode error(final Throwable error) {
        final StringWriter trace = new StringWriter();
        error.printStackTrace(new PrintWriter(trace));
        final ObjectNode answer = Client.JSON.createObjectNode();
        final ObjectNode described = answer.putObject("error");
        described.put("class", error.getClass().getName());
        described.put("isSqlException", error instanceof SQLException);
        described.put("message", String.valueOf(error.getMessage()));
        final ArrayNode causes = described.putArray("causes");
        for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
            causes.add(String.valueOf(cause.getMessage()));
        }
        described.put("trace", trace.toString());
        return answer;
    }
}
