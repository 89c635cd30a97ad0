import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.data.Stat;

/**
 * A contender of tools/storm_locks.py: takes Curator's lock again and again, notes when it had it, and writes under a
 * guard. Arguments: server, lock, note, file of notes, own name, session timeout in ms, steps, ms a step.
 */
public final class StormLock {
    private static final long DEADLINE_S = 60;
    private static final long PAUSE_MS = 10;
    private final CuratorFramework client;
    private final String lock;
    private final String note;
    private final FileChannel notes;
    private final String name;
    private final int steps;
    private final long stepMs;

    private static final class Mutex extends InterProcessMutex {
        Mutex(CuratorFramework client, String path) {
            super(client, path);
        }

        String own() {
            return getLockPath();
        }
    }

    private StormLock(String[] args) throws Exception {
        lock = args[1];
        note = args[2];
        notes = FileChannel.open(Path.of(args[3]), StandardOpenOption.APPEND);
        name = args[4];
        int sessionMs = Integer.parseInt(args[5]);
        steps = Integer.parseInt(args[6]);
        stepMs = Long.parseLong(args[7]);
        client = CuratorFrameworkFactory.builder()
                .connectString(args[0])
                .sessionTimeoutMs(sessionMs)
                .connectionTimeoutMs(sessionMs)
                .retryPolicy(new RetryNTimes(10, 50))
                .build();
        client.start();
    }

    /** Seconds of the clock that Python calls monotonic (CLOCK_MONOTONIC for both). */
    private void write(String what, long token) throws Exception {
        String line = String.format(Locale.ROOT, "%s %s %d %.6f%n", what, name, token, System.nanoTime() / 1e9);
        notes.write(ByteBuffer.wrap(line.getBytes()));
    }

    private void contend() throws Exception {
        // A new object each time: one whose session has ended does not know that it has lost its znode.
        Mutex mutex = new Mutex(client, lock);
        if (!mutex.acquire(DEADLINE_S, TimeUnit.SECONDS)) {
            return;
        }
        try {
            hold(mutex.own());
        } finally {
            mutex.release();
        }
    }

    private void hold(String own) throws Exception {
        Stat stat = client.checkExists().forPath(own);
        if (stat == null) {
            return;
        }
        long token = stat.getCzxid();
        write("got", token);
        for (int step = 0; step < steps; step++) {
            Stat noted = new Stat();
            long before = Long.parseLong(new String(client.getData().storingStatIn(noted).forPath(note)));
            client.transaction()
                    .forOperations(
                            client.transactionOp().check().withVersion(0).forPath(own),
                            client.transactionOp()
                                    .setData()
                                    .withVersion(noted.getVersion())
                                    .forPath(note, Long.toString(token).getBytes()));
            write(before > token ? "overlap" : "wrote", token);
            Thread.sleep(stepMs);
        }
    }

    public static void main(String[] args) throws Exception {
        StormLock contender = new StormLock(args);
        while (true) {
            try {
                contender.contend();
            } catch (Exception faulty) {
                // Connections and sessions are lost here all the time.
                Thread.sleep(PAUSE_MS);
            }
        }
    }
}
