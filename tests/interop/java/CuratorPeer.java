import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedIdQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;

/** Curator's recipes by commands on standard input, a line each: `verb path arguments`; one line answers each. */
public final class CuratorPeer {
    private static final long DEADLINE_S = 20;
    private final CuratorFramework client;
    private final Map<String, LeaderLatch> latches = new TreeMap<>();
    private final Map<String, GroupMember> members = new TreeMap<>();
    private final Map<String, DistributedDoubleBarrier> barriers = new TreeMap<>();

    private CuratorPeer(String connect) throws Exception {
        client = CuratorFrameworkFactory.builder()
                .connectString(connect)
                .sessionTimeoutMs(20_000)
                .connectionTimeoutMs(10_000)
                .retryPolicy(new RetryNTimes(10, 20))
                .build();
        client.start();
        client.blockUntilConnected(20, TimeUnit.SECONDS);
    }

    private static final class Text implements QueueSerializer<String> {
        @Override
        public byte[] serialize(String item) {
            return item.getBytes();
        }

        @Override
        public String deserialize(byte[] bytes) {
            return new String(bytes);
        }
    }

    private static final class Gather implements QueueConsumer<String> {
        final BlockingQueue<String> got = new LinkedBlockingQueue<>();

        @Override
        public void consumeMessage(String message) {
            got.add(message);
        }

        @Override
        public void stateChanged(CuratorFramework client, ConnectionState state) {}
    }

    private String sharedSet(String path, int value) throws Exception {
        try (SharedCount count = new SharedCount(client, path, 0)) {
            count.start();
            count.setCount(value);
            return "done";
        }
    }

    private String sharedGet(String path) throws Exception {
        try (SharedCount count = new SharedCount(client, path, 0)) {
            count.start();
            return Integer.toString(count.getCount());
        }
    }

    private String atomicAdd(String path, long delta) throws Exception {
        AtomicValue<Long> value = new DistributedAtomicLong(client, path, new RetryNTimes(50, 5)).add(delta);
        return value.succeeded() ? value.postValue().toString() : "failed";
    }

    private String latchStart(String path, String id) throws Exception {
        LeaderLatch latch = new LeaderLatch(client, path, id);
        latch.start();
        latches.put(path, latch);
        return "started";
    }

    private String queuePut(String kind, String path, String data, long number) throws Exception {
        QueueBuilder<String> builder = QueueBuilder.builder(client, null, new Text(), path);
        switch (kind) {
            case "plain" -> {
                try (DistributedQueue<String> queue = builder.putInBackground(false).buildQueue()) {
                    queue.start();
                    queue.put(data);
                }
            }
            case "priority" -> {
                try (DistributedPriorityQueue<String> queue = builder.putInBackground(false).buildPriorityQueue(0)) {
                    queue.start();
                    queue.put(data, (int) number);
                }
            }
            case "id" -> {
                try (DistributedIdQueue<String> queue = builder.putInBackground(false).buildIdQueue()) {
                    queue.start();
                    queue.put(data, "an/id" + number);
                }
            }
            default -> {
                try (DistributedDelayQueue<String> queue = builder.putInBackground(false).buildDelayQueue()) {
                    queue.start();
                    queue.put(data, number);
                }
            }
        }
        return "put";
    }

    /** Consumes so many items, with a lock path. */
    private String queueTake(String path, String locks, int count) throws Exception {
        Gather consumer = new Gather();
        StringBuilder got = new StringBuilder();
        try (DistributedQueue<String> queue =
                QueueBuilder.builder(client, consumer, new Text(), path).lockPath(locks).buildQueue()) {
            queue.start();
            for (int number = 0; number < count; number++) {
                String item = consumer.got.poll(DEADLINE_S, TimeUnit.SECONDS);
                got.append(number == 0 ? "" : " ").append(item);
            }
        }
        return got.toString();
    }

    private String answer(String[] words) throws Exception {
        String path = words[1];
        switch (words[0]) {
            case "shared-set":
                return sharedSet(path, Integer.parseInt(words[2]));
            case "shared-get":
                return sharedGet(path);
            case "atomic-add":
                return atomicAdd(path, Long.parseLong(words[2]));
            case "latch-start":
                return latchStart(path, words[2]);
            case "latch-await":
                return Boolean.toString(latches.get(path).await(DEADLINE_S, TimeUnit.SECONDS));
            case "latch-leads":
                return Boolean.toString(latches.get(path).hasLeadership());
            case "latch-leader":
                return latches.get(path).getLeader().getId();
            case "latch-close":
                latches.get(path).close();
                return "closed";
            case "member-start":
                members.put(path, new GroupMember(client, path, words[2], words[3].getBytes()));
                members.get(path).start();
                return "started";
            case "member-list":
                return String.join(" ", new TreeMap<>(members.get(path).getCurrentMembers()).keySet());
            case "member-close":
                members.get(path).close();
                return "closed";
            case "barrier-enter":
                barriers.put(path, new DistributedDoubleBarrier(client, path, Integer.parseInt(words[2])));
                return Boolean.toString(barriers.get(path).enter(DEADLINE_S, TimeUnit.SECONDS));
            case "barrier-leave":
                return Boolean.toString(barriers.get(path).leave(DEADLINE_S, TimeUnit.SECONDS));
            case "simple-offer":
                return Boolean.toString(new SimpleDistributedQueue(client, path).offer(words[2].getBytes()));
            case "simple-take":
                return new String(new SimpleDistributedQueue(client, path).take());
            case "queue-put":
                return queuePut(words[2], path, words[3], Long.parseLong(words[4]));
            case "queue-take":
                return queueTake(path, words[2], Integer.parseInt(words[3]));
            default:
                return "unknown " + words[0];
        }
    }

    public static void main(String[] args) throws Exception {
        CuratorPeer peer = new CuratorPeer(args[0]);
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String answer;
            try {
                answer = peer.answer(line.split(" "));
            } catch (Exception error) {
                answer = "error " + error;
            }
            System.out.println(answer);
        }
        System.exit(0);
    }
}
