import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringReader;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import org.apache.jute.BinaryInputArchive;
import org.apache.jute.BinaryOutputArchive;
import org.apache.jute.Record;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.common.PathUtils;
import org.apache.zookeeper.server.quorum.QuorumCnxManager;
import org.apache.zookeeper.server.quorum.QuorumPeerConfig;
import org.apache.zookeeper.server.quorum.flexible.QuorumVerifier;

/**
 * What Java's ZooKeeper says about bytes, for the tests of coati.wire. The first argument is the question:
 *
 * <p>records CLASS...: every record class with values in a few variants and the bytes it serialises to, as JSON.
 * <p>codes: the numbers of ZooDefs, KeeperException, Watcher, CreateMode and AddWatchMode, as JSON.
 * <p>paths: for each line of stdin, a path in hex: "1" or "0" for validatePath, plain and then sequential.
 * <p>echo: for each line "CLASS HEX" of stdin: what the class writes after reading the bytes, in hex and behind "=", or the
 * name of the exception.
 *
 * <p>views: for each line of stdin, the text of a configuration in hex: its toString in hex behind "=", a blank, and for
 * every set of its voters "1" or "0": is it a quorum (the lowest bit of the set's number is the lowest sid); or the name
 * of the exception.
 *
 * <p>hellos: for each line of stdin, the first bytes of an election connection in hex, which begin with a version: the sid
 * and its addresses, "sid host:port|host:port", or the name of the exception.
 */
public final class WirePeer {
    private static final HexFormat HEX = HexFormat.of();
    private static final String[] TEXTS = {
        "", "/", "/zookeeper/quota", "\u007f\u0000\n", "/na\u00efve/\u65e5\u672c\u8a9e", "\uffff\ufffd\u0800\u07ff\u0080"};
    private static final int VARIANTS = 8;

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.US_ASCII);
        switch (args[0]) {
        case "records":
            records(out, Arrays.copyOfRange(args, 1, args.length));
            break;
        case "codes":
            codes(out);
            break;
        case "paths":
            paths(out);
            break;
        case "echo":
            echo(out);
            break;
        case "views":
            views(out);
            break;
        case "hellos":
            hellos(out);
            break;
        default:
            throw new IllegalArgumentException(args[0]);
        }
        out.flush();
    }

    private static void records(PrintStream out, String[] classes) throws Exception {
        out.println("{");
        for (int i = 0; i < classes.length; i++) {
            Class<?> type = Class.forName(classes[i]);
            List<String> names = new ArrayList<>();
            for (Field field : fields(type)) {
                names.add(quote(field.getName()));
            }
            out.println(quote(type.getSimpleName()) + ": {\"fields\": [" + String.join(", ", names) + "], \"samples\": [");
            for (int variant = 0; variant < VARIANTS; variant++) {
                Random random = new Random(31L * type.getSimpleName().hashCode() + variant);
                Record record = (Record) build(type, variant, random);
                out.print("[" + json(record) + ", \"" + HEX.formatHex(serialise(record)) + "\"]");
                out.println(variant + 1 < VARIANTS ? "," : "]}" + (i + 1 < classes.length ? "," : ""));
            }
        }
        out.println("}");
    }

    private static void views(PrintStream out) throws Exception {
        QuorumPeerConfig.setStandaloneEnabled(false);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Properties props = new Properties();
            props.load(new StringReader(new String(HEX.parseHex(line), StandardCharsets.UTF_8)));
            try {
                QuorumVerifier view = QuorumPeerConfig.parseDynamicConfig(props, 3, false, false, null);
                List<Long> voters = new ArrayList<>(new TreeMap<>(view.getVotingMembers()).keySet());
                StringBuilder verdicts = new StringBuilder();
                for (int number = 0; number < 1 << voters.size(); number++) {
                    Set<Long> set = new HashSet<>();
                    for (int i = 0; i < voters.size(); i++) {
                        if ((number >> i & 1) == 1) {
                            set.add(voters.get(i));
                        }
                    }
                    verdicts.append(view.containsQuorum(set) ? '1' : '0');
                }
                out.println("=" + HEX.formatHex(view.toString().getBytes(StandardCharsets.UTF_8)) + " " + verdicts);
            } catch (Exception e) {
                out.println(e.getClass().getSimpleName());
            }
        }
    }

    private static void hellos(PrintStream out) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                DataInputStream data = new DataInputStream(new ByteArrayInputStream(HEX.parseHex(line)));
                QuorumCnxManager.InitialMessage hello = QuorumCnxManager.InitialMessage.parse(data.readLong(), data);
                List<String> addresses = new ArrayList<>();
                for (InetSocketAddress address : hello.electionAddr) {
                    addresses.add(address.getHostString() + ":" + address.getPort());
                }
                out.println(hello.sid + " " + String.join("|", addresses));
            } catch (Exception e) {
                out.println(e.getClass().getSimpleName());
            }
        }
    }

    private static List<Field> fields(Class<?> type) {
        List<Field> found = new ArrayList<>();
        for (Field field : type.getDeclaredFields()) {
            if (!Modifier.isStatic(field.getModifiers())) {
                field.setAccessible(true);
                found.add(field);
            }
        }
        return found;
    }

    private static Object build(Class<?> type, int variant, Random random) throws Exception {
        Object record = type.getDeclaredConstructor().newInstance();
        for (Field field : fields(type)) {
            if (List.class.isAssignableFrom(field.getType())) {
                Class<?> item = (Class<?>) ((ParameterizedType) field.getGenericType()).getActualTypeArguments()[0];
                field.set(record, vector(item, variant, random));
            } else {
                field.set(record, value(field.getType(), variant, random));
            }
        }
        return record;
    }

    private static List<Object> vector(Class<?> item, int variant, Random random) throws Exception {
        if (variant == 3) {
            return null;
        }
        int count = variant < 3 ? variant : random.nextInt(4);
        List<Object> list = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            list.add(value(item, variant, random));
        }
        return list;
    }

    private static Object value(Class<?> type, int variant, Random random) throws Exception {
        if (type == int.class) {
            int[] edges = {0, Integer.MIN_VALUE, Integer.MAX_VALUE, -1};
            return variant < 4 ? edges[variant] : random.nextInt();
        }
        if (type == long.class) {
            long[] edges = {0, Long.MIN_VALUE, Long.MAX_VALUE, -1};
            return variant < 4 ? edges[variant] : random.nextLong();
        }
        if (type == boolean.class) {
            return variant < 4 ? variant % 2 == 1 : random.nextBoolean();
        }
        if (type == String.class) {
            String[] edges = {"", "/a", "/\u00e9\u20ac\uffff", null};
            return variant < 4 ? edges[variant] : TEXTS[random.nextInt(TEXTS.length)] + random.nextInt(100);
        }
        if (type == byte[].class) {
            byte[][] edges = {new byte[0], new byte[] {0}, new byte[] {-1, 0, 127, -128}, null};
            byte[] bytes = new byte[random.nextInt(20)];
            random.nextBytes(bytes);
            return variant < 4 ? edges[variant] : bytes;
        }
        return build(type, variant, random);
    }

    private static byte[] serialise(Record record) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        record.serialize(BinaryOutputArchive.getArchive(bytes), "record");
        return bytes.toByteArray();
    }

    private static String json(Object value) throws Exception {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            return String.valueOf(value);
        }
        if (value instanceof String) {
            return quote((String) value);
        }
        if (value instanceof byte[]) {
            return "{\"hex\": \"" + HEX.formatHex((byte[]) value) + "\"}";
        }
        List<String> parts = new ArrayList<>();
        if (value instanceof List) {
            for (Object item : (List<?>) value) {
                parts.add(json(item));
            }
        } else {
            for (Field field : fields(value.getClass())) {
                parts.add(json(field.get(value)));
            }
        }
        return "[" + String.join(", ", parts) + "]";
    }

    private static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c < ' ' || c > '~' || c == '"' || c == '\\') {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }

    private static void codes(PrintStream out) throws Exception {
        Map<String, Map<String, Integer>> tables = new TreeMap<>();
        tables.put("OpCode", constants(ZooDefs.OpCode.class));
        tables.put("Perms", constants(ZooDefs.Perms.class));
        Map<String, Integer> table = new TreeMap<>();
        for (KeeperException.Code code : KeeperException.Code.values()) {
            table.put(code.name(), code.intValue());
        }
        tables.put("Code", table);
        table = new TreeMap<>();
        for (Watcher.Event.KeeperState state : Watcher.Event.KeeperState.values()) {
            table.put(state.name(), state.getIntValue());
        }
        tables.put("KeeperState", table);
        table = new TreeMap<>();
        for (Watcher.Event.EventType type : Watcher.Event.EventType.values()) {
            table.put(type.name(), type.getIntValue());
        }
        tables.put("EventType", table);
        table = new TreeMap<>();
        for (Watcher.WatcherType type : Watcher.WatcherType.values()) {
            table.put(type.name(), type.getIntValue());
        }
        tables.put("WatcherType", table);
        table = new TreeMap<>();
        for (CreateMode mode : CreateMode.values()) {
            table.put(mode.name(), mode.toFlag());
        }
        tables.put("CreateMode", table);
        table = new TreeMap<>();
        for (AddWatchMode mode : AddWatchMode.values()) {
            table.put(mode.name(), mode.getMode());
        }
        tables.put("AddWatchMode", table);
        List<String> texts = new ArrayList<>();
        for (Map.Entry<String, Map<String, Integer>> entry : tables.entrySet()) {
            List<String> rows = new ArrayList<>();
            entry.getValue().forEach((name, number) -> rows.add(quote(name) + ": " + number));
            texts.add(quote(entry.getKey()) + ": {" + String.join(", ", rows) + "}");
        }
        out.println("{" + String.join(",\n", texts) + "}");
    }

    private static Map<String, Integer> constants(Class<?> type) throws Exception {
        Map<String, Integer> table = new TreeMap<>();
        for (Field field : type.getFields()) {
            if (field.getType() == int.class && Modifier.isStatic(field.getModifiers())) {
                table.put(field.getName(), field.getInt(null));
            }
        }
        return table;
    }

    private static void paths(PrintStream out) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String path = new String(HEX.parseHex(line), StandardCharsets.UTF_8);
            out.println(verdict(path, false) + verdict(path, true));
        }
    }

    private static String verdict(String path, boolean sequential) {
        try {
            PathUtils.validatePath(path, sequential);
            return "1";
        } catch (IllegalArgumentException refused) {
            return "0";
        }
    }

    private static void echo(PrintStream out) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] parts = line.split(" ", -1);
            Record record = (Record) Class.forName(parts[0]).getDeclaredConstructor().newInstance();
            try {
                byte[] bytes = HEX.parseHex(parts[1]);
                record.deserialize(BinaryInputArchive.getArchive(new ByteArrayInputStream(bytes)), "record");
                out.println("=" + HEX.formatHex(serialise(record)));
            } catch (EOFException short_) {
                out.println("EOFException");
            } catch (IOException refused) {
                out.println("IOException");
            }
        }
    }
}
