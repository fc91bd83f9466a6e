import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.vertx.VertxParallelEoSStreamProcessor;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpMethod;
import io.vertx.core.json.JsonArray;
import io.vertx.core.json.JsonObject;
import io.vertx.ext.web.client.HttpRequest;
import io.vertx.ext.web.client.HttpResponse;
import io.vertx.ext.web.client.WebClient;
import io.vertx.ext.web.client.WebClientOptions;
import java.net.URI;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Parallel Consumer's Vert.x module, ordered by key: makes the six calls of a sync and derives nothing. */
public class Main {
    private static final int WIDTH = Integer.parseInt(System.getenv("SYNC_CONCURRENCY"));
    private static final URI SESAMY = URI.create(System.getenv("SESAMY_API_URL"));
    private static final URI MAILMOJO = URI.create(System.getenv("MAILMOJO_API_URL"));
    private static final String MAILMOJO_TOKEN = System.getenv("MAILMOJO_API_TOKEN");
    private static final Vertx VERTX = Vertx.vertx();
    // A sync has two requests open at most; the default pool has five connections.
    private static final WebClient HTTP = WebClient.create(VERTX, new WebClientOptions().setMaxPoolSize(2 * WIDTH));
    private static String sesamyToken;

    public static void main(String[] arguments) throws Exception {
        sesamyToken = token().toCompletionStage().toCompletableFuture().get();
        Properties properties = new Properties();
        properties.put("bootstrap.servers", System.getenv("KAFKA_BOOTSTRAP_SERVERS"));
        properties.put("group.id", System.getenv("KAFKA_GROUP_ID"));
        properties.put("session.timeout.ms", System.getenv("KAFKA_SESSION_TIMEOUT") + "000");
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("isolation.level", "read_committed");
        ParallelConsumerOptions<String, String> options = ParallelConsumerOptions.<String, String>builder()
            .ordering(ProcessingOrder.KEY)
            .maxConcurrency(WIDTH)
            .consumer(new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer()))
            .build();
        var processor = new VertxParallelEoSStreamProcessor<String, String>(VERTX, HTTP, options);
        processor.subscribe(List.of(System.getenv("KAFKA_TOPIC")));
        processor.vertxFuture(context -> sync(new JsonObject(context.value()).getString("userId")));
        Thread.currentThread().join();
    }

    /** Profile; contracts, then transactions, beside entitlements; then the contact. */
    private static Future<Buffer> sync(String userId) {
        String of = "userId=" + encoded(userId);
        return read("users/" + encoded(userId)).compose(profile -> {
            Future<Buffer> entitlements = read("entitlements?" + of);
            Future<Buffer> transactions = read("contracts?" + of + "&limit=100&offset=0")
                .compose(contracts -> read("transactions?" + of + "&limit=100&offset=0"));
            return Future.all(entitlements, transactions).compose(both -> write(userId, profile.toJsonObject()));
        });
    }

    private static Future<Buffer> write(String userId, JsonObject profile) {
        String email = profile.getString("email").strip().toLowerCase(Locale.ROOT);
        String path = "/v1/contacts/" + encoded(email) + "/";
        return checked(mailmojo(HttpMethod.GET, path).send()).compose(found -> {
            JsonObject contact = found.toJsonObject();
            JsonArray tags = new JsonArray();
            contact.getJsonArray("tags").stream().filter(tag -> !tag.toString().startsWith("sesamy_")).forEach(tags::add);
            profile.getJsonArray("tags").stream().filter(tag -> tag.toString().startsWith("v-"))
                .forEach(tag -> tags.add("sesamy_tag_" + tag));
            JsonObject custom = contact.getJsonObject("custom", new JsonObject()).put("Sesamy User ID", userId);
            JsonObject body = new JsonObject().put("email", email).put("tags", tags).put("custom", custom);
            return checked(mailmojo(HttpMethod.PATCH, path).sendJsonObject(body));
        });
    }

    private static Future<Buffer> read(String path) {
        return checked(HTTP.request(HttpMethod.GET, SESAMY.getPort(), SESAMY.getHost(), "/management/" + path)
            .putHeader("Authorization", "Bearer " + sesamyToken).send());
    }

    private static HttpRequest<Buffer> mailmojo(HttpMethod method, String path) {
        return HTTP.request(method, MAILMOJO.getPort(), MAILMOJO.getHost(), path)
            .putHeader("Authorization", "Bearer " + MAILMOJO_TOKEN);
    }

    private static Future<Buffer> checked(Future<HttpResponse<Buffer>> sent) {
        return sent.compose(response -> response.statusCode() == 200
            ? Future.succeededFuture(response.body())
            : Future.failedFuture("status " + response.statusCode()));
    }

    private static Future<String> token() {
        String form = "grant_type=client_credentials&client_id=" + encoded(System.getenv("SESAMY_CLIENT_ID"))
            + "&client_secret=" + encoded(System.getenv("SESAMY_CLIENT_SECRET"));
        HttpRequest<Buffer> request = HTTP.postAbs(System.getenv("SESAMY_TOKEN_URL"))
            .putHeader("Content-Type", "application/x-www-form-urlencoded");
        return checked(request.sendBuffer(Buffer.buffer(form))).map(body -> body.toJsonObject().getString("access_token"));
    }

    private static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20").replace("*", "%2A");
    }
}
