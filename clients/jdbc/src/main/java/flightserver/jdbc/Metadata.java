package flightserver.jdbc;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.DatabaseMetaData;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.stream.StreamSupport;

/**
 * {@link DatabaseMetaData}, method by method.
 *
 * <p>{@code calls} is a list of {@code [method, argument...]}; without it every method of the interface is called once,
 * with null for each text, 1 for each number and true for each flag, except that a call of {@code instead} replaces that of
 * its method. Each answer has the {@code method} as Java writes it, and either its {@code value}, or {@code columns} and
 * {@code rows}, or an {@code error}.
 */
final class Metadata {
    private Metadata() {}

    static JsonNode answers(final DatabaseMetaData metadata, final JsonNode request) {
        final var answers = Client.JSON.createArrayNode();
        if (request.has("calls")) {
            request.get("calls").forEach(call -> answers.add(answer(metadata, method(call), call)));
        } else {
            for (final Method method : DatabaseMetaData.class.getMethods()) {
                final JsonNode call = StreamSupport.stream(request.get("instead").spliterator(), false)
                        .filter(each -> matches(method, each))
                        .findFirst()
                        .orElse(null);
                answers.add(answer(metadata, method, call));
            }
        }
        return answers;
    }

    private static boolean matches(final Method method, final JsonNode call) {
        return method.getName().equals(call.get(0).asText()) && method.getParameterCount() == call.size() - 1;
    }

    private static Method method(final JsonNode call) {
        for (final Method method : DatabaseMetaData.class.getMethods()) {
            if (matches(method, call)) {
                return method;
            }
        }
        throw new IllegalArgumentException("DatabaseMetaData has no method for " + call);
    }

    private static ObjectNode answer(final DatabaseMetaData metadata, final Method method, final JsonNode call) {
        ObjectNode answer = Client.JSON.createObjectNode();
        try {
            final Object value = method.invoke(metadata, arguments(method, call));
            if (value instanceof ResultSet results) {
                try (results) {
                    answer.set("columns", Values.columns(results.getMetaData()));
                    answer.set("rows", Values.rows(results));
                }
            } else {
                answer.set("value", Values.json(value));
            }
        } catch (final InvocationTargetException error) {
            answer = Values.error(error.getCause());
        } catch (final IllegalAccessException | SQLException | RuntimeException error) {
            answer = Values.error(error);
        }
        return answer.put("method", method.getName() + "/" + method.getParameterCount());
    }

    private static Object[] arguments(final Method method, final JsonNode call) {
        final Class<?>[] types = method.getParameterTypes();
        final Object[] arguments = new Object[types.length];
        for (int place = 0; place < types.length; place++) {
            arguments[place] = call == null ? usual(types[place]) : converted(call.get(place + 1), types[place]);
        }
        return arguments;
    }

    private static Object usual(final Class<?> type) {
        if (type == boolean.class) {
            return true;
        }
        if (type == int.class) {
            return 1;
        }
        return type == Class.class ? DatabaseMetaData.class : null;
    }

    private static Object converted(final JsonNode argument, final Class<?> type) {
        return Client.JSON.convertValue(argument, type);
    }
}
