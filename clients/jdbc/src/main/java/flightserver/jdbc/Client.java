package flightserver.jdbc;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;

/**
 * A JDBC client that a test steers: each line of the standard input is a request, each line of the standard output its
 * answer, both JSON objects.
 *
 * <p>A request names what to {@code do} and, except to connect, the {@code connection} to do it with. What fails is
 * answered as {@code error}: the class of the exception, its message and those of its causes. The requests are the cases
 * of {@link #answer}; {@link Statements} and {@link Metadata} say what theirs hold.
 */
public final class Client {
    static final ObjectMapper JSON = new ObjectMapper();

    private final Map<Integer, Connection> connections = new HashMap<>();
    private int connected;

    private Client() {}

    public static void main(final String[] arguments) throws IOException {
        final PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        // What libraries print must not be taken for an answer.
        System.setOut(System.err);
        final Client client = new Client();
        final BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            answers.println(JSON.writeValueAsString(client.answerOrError(JSON.readTree(line))));
        }
        // The driver leaves threads behind that are no daemons.
        System.exit(0);
    }

    private JsonNode answerOrError(final JsonNode request) {
        try {
            return answer(request);
        } catch (final Exception | LinkageError error) {
            return Values.error(error);
        }
    }

    private ObjectNode answer(final JsonNode request) throws Exception {
        final ObjectNode answer = JSON.createObjectNode();
        final String what = request.get("do").asText();
        if (what.equals("connect")) {
            connections.put(++connected, connect(request));
            return answer.put("connection", connected);
        }
        final Connection connection = connections.get(request.get("connection").asInt());
        switch (what) {
            case "close" -> connection.close();
            case "commit" -> connection.commit();
            case "rollback" -> connection.rollback();
            case "set" -> set(connection, request);
            case "get" -> {
                answer.put("catalog", connection.getCatalog());
                answer.put("schema", connection.getSchema());
                answer.put("autoCommit", connection.getAutoCommit());
                answer.put("valid", connection.isValid(10));
            }
            case "metadata" -> answer.set("answers", Metadata.answers(connection.getMetaData(), request));
            case "execute" -> Statements.execute(connection, request, answer);
            case "batch" -> Statements.batch(connection, request, answer);
            case "digest" -> Statements.digest(connection, request, answer);
            case "cancel" -> Statements.cancel(connection, request, answer);
            default -> throw new IllegalArgumentException("no request is called " + what);
        }
        return answer;
    }

    private static Connection connect(final JsonNode request) throws SQLException {
        final Properties properties = new Properties();
        request.get("properties").properties().forEach(each -> properties.put(each.getKey(), each.getValue().asText()));
        return DriverManager.getConnection(request.get("url").asText(), properties);
    }

    private static void set(final Connection connection, final JsonNode request) throws SQLException {
        if (request.has("catalog")) {
            connection.setCatalog(request.get("catalog").asText());
        }
        if (request.has("schema")) {
            connection.setSchema(request.get("schema").asText());
        }
        if (request.has("autoCommit")) {
            connection.setAutoCommit(request.get("autoCommit").asBoolean());
        }
    }
}
