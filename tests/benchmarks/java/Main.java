import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Parallel Consumer by key, making the calls of a sync with java.net.http; nothing is derived, only passed on. */
public class Main {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private static String sesamyToken;

    public static void main(String[] arguments) throws Exception {
        sesamyToken = token();
        Properties properties = new Properties();
        properties.put("bootstrap.servers", env("KAFKA_BOOTSTRAP_SERVERS"));
        properties.put("group.id", env("KAFKA_GROUP_ID"));
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("isolation.level", "read_committed");
        ParallelConsumerOptions<String, String> options = ParallelConsumerOptions.<String, String>builder()
            .ordering(ProcessingOrder.KEY)
            .maxConcurrency(Integer.parseInt(env("SYNC_CONCURRENCY")))
            .consumer(new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer()))
            .build();
        ParallelStreamProcessor<String, String> processor =
            ParallelStreamProcessor.createEosStreamProcessor(options);
        processor.subscribe(List.of(env("KAFKA_TOPIC")));
        processor.poll(context -> sync(context.getSingleConsumerRecord().value()));
        Thread.currentThread().join();
    }

    /** The calls of a sync of a subscriber: profile; contracts, then transactions, beside entitlements; the contact. */
    private static void sync(String event) {
        try {
            String userId = JSON.readTree(event).get("userId").asText();
            String of = "userId=" + encoded(userId);
            JsonNode profile = read("/management/users/" + encoded(userId)).join();
            CompletableFuture<JsonNode> entitlements = read("/management/entitlements?" + of);
            CompletableFuture<JsonNode> transactions = read("/management/contracts?" + of + "&limit=100&offset=0")
                .thenCompose(contracts -> read("/management/transactions?" + of + "&limit=100&offset=0"));
            entitlements.join();
            transactions.join();
            write(userId, profile);
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static void write(String userId, JsonNode profile) throws Exception {
        String email = profile.get("email").asText().strip().toLowerCase(Locale.ROOT);
        String path = env("MAILMOJO_API_URL") + "/v1/contacts/" + encoded(email) + "/";
        JsonNode contact = answer(HTTP.send(mailmojo(path).GET().build(), BodyHandlers.ofByteArray()));
        ArrayNode tags = JSON.createArrayNode();
        contact.path("tags").forEach(tag -> { if (!tag.asText().startsWith("sesamy_")) tags.add(tag.asText()); });
        profile.path("tags").forEach(tag -> {
            if (tag.asText().startsWith("v-")) tags.add("sesamy_tag_" + tag.asText());
        });
        ObjectNode custom = contact.path("custom").isObject() ? contact.get("custom").deepCopy() : JSON.createObjectNode();
        custom.put("Sesamy User ID", userId);
        if (tags.equals(contact.get("tags")) && custom.equals(contact.get("custom"))) {
            return;
        }
        ObjectNode body = JSON.createObjectNode().put("email", email);
        body.set("tags", tags);
        body.set("custom", custom);
        HttpRequest patch = mailmojo(path).header("Content-Type", "application/json")
            .method("PATCH", BodyPublishers.ofByteArray(JSON.writeValueAsBytes(body))).build();
        answer(HTTP.send(patch, BodyHandlers.ofByteArray()));
    }

    private static CompletableFuture<JsonNode> read(String path) {
        HttpRequest request = HttpRequest.newBuilder(URI.create(env("SESAMY_API_URL") + path))
            .header("Authorization", "Bearer " + sesamyToken).build();
        return HTTP.sendAsync(request, BodyHandlers.ofByteArray()).thenApply(Main::answer);
    }

    private static HttpRequest.Builder mailmojo(String url) {
        return HttpRequest.newBuilder(URI.create(url)).header("Authorization", "Bearer " + env("MAILMOJO_API_TOKEN"));
    }

    private static JsonNode answer(HttpResponse<byte[]> response) {
        try {
            if (response.statusCode() != 200) {
                throw new IllegalStateException("status " + response.statusCode());
            }
            return JSON.readTree(response.body());
        } catch (java.io.IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private static String token() throws Exception {
        String form = "grant_type=client_credentials&client_id=" + encoded(env("SESAMY_CLIENT_ID"))
            + "&client_secret=" + encoded(env("SESAMY_CLIENT_SECRET"));
        HttpRequest request = HttpRequest.newBuilder(URI.create(env("SESAMY_TOKEN_URL")))
            .header("Content-Type", "application/x-www-form-urlencoded").POST(BodyPublishers.ofString(form)).build();
        return answer(HTTP.send(request, BodyHandlers.ofByteArray())).get("access_token").asText();
    }

    private static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20").replace("*", "%2A");
    }

    private static String env(String name) {
        return System.getenv(name);
    }
}
