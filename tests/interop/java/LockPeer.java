import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.locks.Revoker;
import org.apache.curator.retry.RetryOneTime;

/** Takes and gives back Curator's locks as the lines of its input say, "kind verb path [number]"; answers each line. */
public final class LockPeer {
    private final CuratorFramework client;
    private final Map<String, InterProcessMutex> mutexes = new HashMap<>();
    private final Map<String, InterProcessReadWriteLock> pairs = new HashMap<>();
    private final Map<String, InterProcessSemaphoreMutex> semaphoreMutexes = new HashMap<>();
    private final Map<String, Deque<Lease>> leases = new HashMap<>();
    private final CountDownLatch revoked = new CountDownLatch(1);

    private LockPeer(String connect) throws Exception {
        client = CuratorFrameworkFactory.builder()
                .connectString(connect)
                .sessionTimeoutMs(20_000)
                .connectionTimeoutMs(10_000)
                .retryPolicy(new RetryOneTime(100))
                .build();
        client.start();
        client.blockUntilConnected(20, TimeUnit.SECONDS);
    }

    private boolean mutex(InterProcessMutex mutex, String verb, long ms) throws Exception {
        if (verb.equals("release")) {
            mutex.release();
            return true;
        }
        if (verb.equals("revocable")) {
            mutex.makeRevocable(asked -> revoked.countDown());
        }
        return mutex.acquire(ms, TimeUnit.MILLISECONDS);
    }

    private boolean semaphoreMutex(InterProcessSemaphoreMutex mutex, String verb, long ms) throws Exception {
        if (verb.equals("release")) {
            mutex.release();
            return true;
        }
        return mutex.acquire(ms, TimeUnit.MILLISECONDS);
    }

    private boolean semaphore(String verb, String path, long ms, int permits) throws Exception {
        Deque<Lease> held = leases.computeIfAbsent(path, any -> new ArrayDeque<>());
        if (verb.equals("release")) {
            held.pop().close();
            return true;
        }
        Lease lease = new InterProcessSemaphoreV2(client, path, permits).acquire(ms, TimeUnit.MILLISECONDS);
        if (lease != null) {
            held.push(lease);
        }
        return lease != null;
    }

    private boolean run(String[] words) throws Exception {
        String verb = words[1];
        String path = words[2];
        long ms = words.length > 3 ? Long.parseLong(words[3]) : 0;
        switch (words[0]) {
            case "mutex":
                return mutex(mutexes.computeIfAbsent(path, at -> new InterProcessMutex(client, at)), verb, ms);
            case "read":
                return mutex(pair(path).readLock(), verb, ms);
            case "write":
                return mutex(pair(path).writeLock(), verb, ms);
            case "semaphore":
                return semaphore(verb, path, ms, words.length > 4 ? Integer.parseInt(words[4]) : 0);
            case "semaphore-mutex":
                return semaphoreMutex(
                        semaphoreMutexes.computeIfAbsent(path, at -> new InterProcessSemaphoreMutex(client, at)), verb, ms);
            case "revoke":
                Revoker.attemptRevoke(client, path);
                return true;
            case "revoked":
                return revoked.await(ms, TimeUnit.MILLISECONDS);
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    private InterProcessReadWriteLock pair(String path) {
        return pairs.computeIfAbsent(path, at -> new InterProcessReadWriteLock(client, at));
    }

    public static void main(String[] args) throws Exception {
        LockPeer peer = new LockPeer(args[0]);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                System.out.println(peer.run(line.split(" ")) ? "yes" : "no");
            } catch (Exception failure) {
                System.out.println("error " + failure);
            }
        }
        peer.client.close();
    }
}
