package flightserver.jdbc;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.HexFormat;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Statements: run, in batches, digested, cancelled. */
final class Statements {
    private Statements() {}

    /**
     * Runs {@code sql}: as a prepared statement, once for each row of {@code parameters} (see {@link Values#bind}), or
     * without those as a plain one. Answers the {@code columns} and {@code rows} of the last result, or the
     * {@code counts} of updates; {@code update} says that it is one, as callers of {@code executeUpdate} do. With {@code getters}, a list of {@code [getter, column]}, a row holds what those answer.
     */
    static void execute(final Connection connection, final JsonNode request, final ObjectNode answer)
            throws SQLException {
        if (request.has("parameters")) {
            try (PreparedStatement statement = connection.prepareStatement(request.get("sql").asText())) {
                limit(statement, request);
                for (final JsonNode row : request.get("parameters")) {
                    Values.bind(statement, row);
                    if (request.has("update")) {
                        answer.withArray("/counts").add(statement.executeLargeUpdate());
                    } else {
                        put(statement.execute(), statement, request, answer);
                    }
                }
            }
        } else {
            try (Statement statement = connection.createStatement()) {
                limit(statement, request);
                put(statement.execute(request.get("sql").asText()), statement, request, answer);
            }
        }
    }

    private static void limit(final Statement statement, final JsonNode request) throws SQLException {
        if (request.has("maxRows")) {
            statement.setMaxRows(request.get("maxRows").asInt());
        }
        if (request.has("fetchSize")) {
            statement.setFetchSize(request.get("fetchSize").asInt());
        }
        if (request.has("timeout")) {
            statement.setQueryTimeout(request.get("timeout").asInt());
        }
    }

    private static void put(
            final boolean isQuery, final Statement statement, final JsonNode request, final ObjectNode answer)
            throws SQLException {
        if (!isQuery) {
            answer.withArray("/counts").add(statement.getUpdateCount());
            return;
        }
        try (ResultSet results = statement.getResultSet()) {
            answer.set("columns", Values.columns(results.getMetaData()));
            answer.set("rows", request.has("getters") ? got(results, request.get("getters")) : Values.rows(results));
        }
    }

    private static ArrayNode got(final ResultSet results, final JsonNode getters) throws SQLException {
        final ArrayNode rows = Client.JSON.createArrayNode();
        while (results.next()) {
            final ArrayNode row = rows.addArray();
            for (final JsonNode each : getters) {
                row.add(Values.got(results, each.get(0).asText(), each.get(1).asText()));
            }
        }
        return rows;
    }

    /** Runs {@code sql} with all rows of {@code parameters} at once; answers {@code counts}. */
    static void batch(final Connection connection, final JsonNode request, final ObjectNode answer)
            throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(request.get("sql").asText())) {
            for (final JsonNode row : request.get("parameters")) {
                Values.bind(statement, row);
                statement.addBatch();
            }
            answer.set("counts", Client.JSON.valueToTree(statement.executeLargeBatch()));
        }
    }

    /**
     * Reads all of {@code sql}, which answers integers, doubles and texts without nulls; answers the number of
     * {@code rows} and for each column the SHA-256 of its values: integers and doubles as 8 bytes, big end first, texts as
     * UTF-8 with a zero byte after each.
     */
    static void digest(final Connection connection, final JsonNode request, final ObjectNode answer)
            throws SQLException, NoSuchAlgorithmException {
        try (Statement statement = connection.createStatement();
                ResultSet results = statement.executeQuery(request.get("sql").asText())) {
            final MessageDigest[] digests = new MessageDigest[results.getMetaData().getColumnCount()];
            for (int column = 0; column < digests.length; column++) {
                digests[column] = MessageDigest.getInstance("SHA-256");
            }
            int rows = 0;
            for (; results.next(); rows++) {
                for (int column = 0; column < digests.length; column++) {
                    digests[column].update(bytes(results.getObject(column + 1)));
                }
            }
            answer.put("rows", rows);
            for (final MessageDigest digest : digests) {
                answer.withArray("/columns").add(HexFormat.of().formatHex(digest.digest()));
            }
        }
    }

    private static byte[] bytes(final Object value) {
        if (value instanceof Double number) {
            return ByteBuffer.allocate(Double.BYTES).putDouble(number).array();
        }
        if (value instanceof Number number) {
            return ByteBuffer.allocate(Long.BYTES).putLong(number.longValue()).array();
        }
        return (value + "\0").getBytes(StandardCharsets.UTF_8);
    }

    /**
     * Runs {@code sql} in a thread, and cancels it when it has run for {@code after} milliseconds; answers how it
     * {@code ended}, as an error or with the number of rows that were read. The driver releases the same batch twice when
     * a cancel meets a read ("RefCnt has gone negative"), in whichever call is second: that is answered as {@code raced}.
     */
    static void cancel(final Connection connection, final JsonNode request, final ObjectNode answer)
            throws SQLException, InterruptedException, TimeoutException {
        try (Statement statement = connection.createStatement()) {
            final FutureTask<Integer> reading = new FutureTask<>(() -> count(statement, request.get("sql").asText()));
            new Thread(reading).start();
            TimeUnit.MILLISECONDS.sleep(request.get("after").asLong());
            try {
                statement.cancel();
            } catch (final IllegalStateException raced) {
                answer.set("raced", Values.error(raced));
            }
            try {
                answer.put("ended", reading.get(60, TimeUnit.SECONDS));
            } catch (final ExecutionException error) {
                answer.set("ended", Values.error(error.getCause()));
            }
        } catch (final IllegalStateException raced) {
            answer.set("raced", Values.error(raced));
        }
    }

    private static int count(final Statement statement, final String sql) throws SQLException {
        try (ResultSet results = statement.executeQuery(sql)) {
            int rows = 0;
            while (results.next()) {
                rows++;
            }
            return rows;
        }
    }
}
