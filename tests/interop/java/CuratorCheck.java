import java.util.List;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;

/** Curator's recipes with two clients against the server named by the arguments; prints "OK name" for each that worked. */
public final class CuratorCheck {
    private static final long DEADLINE_S = 20;
    private final CuratorFramework one;
    private final CuratorFramework two;
    private final ExecutorService threads = Executors.newCachedThreadPool(work -> {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    });

    private CuratorCheck(String connect) throws Exception {
        one = client(connect);
        two = client(connect);
    }

    private static CuratorFramework client(String connect) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(connect)
                .sessionTimeoutMs(20_000)
                .connectionTimeoutMs(10_000)
                .retryPolicy(new RetryOneTime(100))
                .build();
        client.start();
        check(client.blockUntilConnected(20, TimeUnit.SECONDS), "connected");
        return client;
    }

    private interface Part {
        void run() throws Exception;
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void part(String name, Part part) throws Exception {
        part.run();
        System.out.println("OK " + name);
    }

    /** Java Curator sends create2 always, and containers for parents of recipes. */
    private void verbs() throws Exception {
        check(one.create().creatingParentsIfNeeded().forPath("/verbs/a", "x".getBytes()).equals("/verbs/a"), "create");
        check(one.setData().withVersion(0).forPath("/verbs/a", "y".getBytes()).getVersion() == 1, "setData");
        check(new String(two.getData().forPath("/verbs/a")).equals("y"), "getData");
        check(two.checkExists().forPath("/verbs/nope") == null, "checkExists");
        String sequential = one.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/verbs/s-");
        check(sequential.endsWith("s-0000000001"), "protected sequential: " + sequential);
        check(two.getChildren().forPath("/verbs").size() == 2, "getChildren");
        check(one.create().withTtl(60_000).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/verbs/ttl") != null, "ttl");
        two.delete().deletingChildrenIfNeeded().forPath("/verbs");
        check(one.checkExists().forPath("/verbs") == null, "delete");
    }

    private void transactions() throws Exception {
        List<CuratorTransactionResult> results = one.transaction().forOperations(
                one.transactionOp().create().forPath("/tx", "a".getBytes()),
                one.transactionOp().create().withMode(CreateMode.EPHEMERAL).forPath("/tx/e"),
                one.transactionOp().setData().withVersion(0).forPath("/tx", "b".getBytes()),
                one.transactionOp().check().withVersion(1).forPath("/tx"));
        check(results.size() == 4 && results.get(2).getResultStat().getVersion() == 1, "results");
        try {
            one.transaction().forOperations(
                    one.transactionOp().create().forPath("/tx/b"), one.transactionOp().delete().forPath("/tx/nope"));
            throw new AssertionError("a transaction with a bad part was done");
        } catch (KeeperException.NoNodeException expected) {
            check(two.checkExists().forPath("/tx/b") == null, "rolled back");
        }
    }

    private void mutex() throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger turns = new AtomicInteger();
        Part worker = () -> {
            InterProcessMutex mutex = new InterProcessMutex(turns.getAndIncrement() % 2 == 0 ? one : two, "/mutex");
            for (int turn = 0; turn < 5; turn++) {
                check(mutex.acquire(DEADLINE_S, TimeUnit.SECONDS), "acquired");
                check(inside.incrementAndGet() == 1, "alone");
                inside.decrementAndGet();
                mutex.release();
            }
        };
        Future<?>[] workers = new Future<?>[4];
        for (int number = 0; number < workers.length; number++) {
            workers[number] = threads.submit(() -> {
                worker.run();
                return null;
            });
        }
        for (Future<?> each : workers) {
            each.get(DEADLINE_S, TimeUnit.SECONDS);
        }
    }

    private void readWriteLock() throws Exception {
        InterProcessReadWriteLock ours = new InterProcessReadWriteLock(one, "/rw");
        InterProcessReadWriteLock theirs = new InterProcessReadWriteLock(two, "/rw");
        ours.readLock().acquire();
        check(theirs.readLock().acquire(DEADLINE_S, TimeUnit.SECONDS), "two readers");
        theirs.readLock().release();
        check(!theirs.writeLock().acquire(50, TimeUnit.MILLISECONDS), "no writer beside a reader");
        ours.readLock().release();
        check(theirs.writeLock().acquire(DEADLINE_S, TimeUnit.SECONDS), "a writer alone");
        theirs.writeLock().release();
    }

    private void semaphore() throws Exception {
        InterProcessSemaphoreV2 ours = new InterProcessSemaphoreV2(one, "/semaphore", 2);
        InterProcessSemaphoreV2 theirs = new InterProcessSemaphoreV2(two, "/semaphore", 2);
        Lease first = ours.acquire(DEADLINE_S, TimeUnit.SECONDS);
        Lease second = theirs.acquire(DEADLINE_S, TimeUnit.SECONDS);
        check(first != null && second != null, "two leases");
        check(ours.acquire(50, TimeUnit.MILLISECONDS) == null, "not a third");
        theirs.returnLease(second);
        ours.returnLease(first);
    }

    private void leaderLatch() throws Exception {
        LeaderLatch ours = new LeaderLatch(one, "/leader", "one");
        ours.start();
        check(ours.await(DEADLINE_S, TimeUnit.SECONDS), "first leader");
        LeaderLatch theirs = new LeaderLatch(two, "/leader", "two");
        theirs.start();
        check(!theirs.hasLeadership() && theirs.getLeader().getId().equals("one"), "one leader");
        ours.close();
        check(theirs.await(DEADLINE_S, TimeUnit.SECONDS), "second leader");
        theirs.close();
    }

    private void cache() throws Exception {
        one.create().forPath("/cache");
        one.create().forPath("/cache/a", "1".getBytes());
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        CountDownLatch ready = new CountDownLatch(1);
        try (CuratorCache cache = CuratorCache.build(two, "/cache")) {
            cache.listenable().addListener(CuratorCacheListener.builder()
                    .forInitialized(ready::countDown)
                    .forCreates(node -> seen.add("created " + node.getPath()))
                    .forChanges((before, after) -> seen.add("changed " + after.getPath() + " " + new String(after.getData())))
                    .forDeletes(node -> seen.add("deleted " + node.getPath()))
                    .build());
            cache.start();
            check(ready.await(DEADLINE_S, TimeUnit.SECONDS), "initialized");
            Set<String> first = new ConcurrentSkipListSet<>(List.of(next(seen), next(seen)));
            check(first.equals(Set.of("created /cache", "created /cache/a")), "first picture: " + first);
            one.create().forPath("/cache/a/b");
            check(next(seen).equals("created /cache/a/b"), "created");
            one.setData().forPath("/cache/a", "2".getBytes());
            check(next(seen).equals("changed /cache/a 2"), "changed");
            one.delete().forPath("/cache/a/b");
            check(next(seen).equals("deleted /cache/a/b"), "deleted");
            check(cache.stream().count() == 2, "size");
        }
    }

    private void watches() throws Exception {
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        one.create().forPath("/watched");
        two.watchers().add().withMode(AddWatchMode.PERSISTENT_RECURSIVE)
                .usingWatcher((org.apache.zookeeper.Watcher) event -> seen.add(event.getType() + " " + event.getPath()))
                .forPath("/watched");
        one.create().forPath("/watched/x");
        one.setData().forPath("/watched/x", new byte[0]);
        one.delete().forPath("/watched/x");
        check(next(seen).equals("NodeCreated /watched/x"), "created");
        check(next(seen).equals("NodeDataChanged /watched/x"), "changed");
        check(next(seen).equals("NodeDeleted /watched/x"), "deleted");
    }

    private static <T> T next(BlockingQueue<T> queue) throws InterruptedException {
        T value = queue.poll(DEADLINE_S, TimeUnit.SECONDS);
        check(value != null, "nothing came");
        return value;
    }

    private void queue() throws Exception {
        BlockingQueue<String> got = new LinkedBlockingQueue<>();
        try (DistributedQueue<String> first = queueOf(one, got); DistributedQueue<String> second = queueOf(two, got)) {
            first.start();
            second.start();
            Set<String> wanted = new ConcurrentSkipListSet<>();
            for (int number = 0; number < 20; number++) {
                wanted.add("item" + number);
                (number % 2 == 0 ? first : second).put("item" + number);
            }
            Set<String> seen = new ConcurrentSkipListSet<>();
            for (int number = 0; number < 20; number++) {
                check(seen.add(next(got)), "each item once");
            }
            check(seen.equals(wanted), "all items");
        }
    }

    private static DistributedQueue<String> queueOf(CuratorFramework client, BlockingQueue<String> got) {
        QueueConsumer<String> consumer = new QueueConsumer<>() {
            @Override
            public void consumeMessage(String message) {
                got.add(message);
            }

            @Override
            public void stateChanged(CuratorFramework changed, ConnectionState state) {
            }
        };
        QueueSerializer<String> serializer = new QueueSerializer<>() {
            @Override
            public byte[] serialize(String item) {
                return item.getBytes();
            }

            @Override
            public String deserialize(byte[] bytes) {
                return new String(bytes);
            }
        };
        return QueueBuilder.builder(client, consumer, serializer, "/queue").lockPath("/queue-lock").buildQueue();
    }

    private void counters() throws Exception {
        DistributedAtomicLong ours = new DistributedAtomicLong(one, "/counter", new RetryOneTime(10));
        DistributedAtomicLong theirs = new DistributedAtomicLong(two, "/counter", new RetryOneTime(10));
        for (int number = 0; number < 10; number++) {
            check(ours.increment().succeeded() && theirs.add(2L).succeeded(), "added");
        }
        check(ours.get().postValue() == 30, "sum");
        try (SharedCount shared = new SharedCount(one, "/shared", 5); SharedCount other = new SharedCount(two, "/shared", 5)) {
            shared.start();
            other.start();
            check(shared.getCount() == 5 && shared.trySetCount(shared.getVersionedValue(), 6), "shared");
        }
    }

    private void doubleBarrier() throws Exception {
        DistributedDoubleBarrier ours = new DistributedDoubleBarrier(one, "/barrier", 2);
        DistributedDoubleBarrier theirs = new DistributedDoubleBarrier(two, "/barrier", 2);
        Future<Boolean> entered = threads.submit(() -> ours.enter(DEADLINE_S, TimeUnit.SECONDS));
        check(theirs.enter(DEADLINE_S, TimeUnit.SECONDS) && entered.get(), "both in");
        Future<Boolean> left = threads.submit(() -> ours.leave(DEADLINE_S, TimeUnit.SECONDS));
        check(theirs.leave(DEADLINE_S, TimeUnit.SECONDS) && left.get(), "both out");
    }

    private void ttlNode() throws Exception {
        try (PersistentTtlNode node = new PersistentTtlNode(one, "/kept", 60_000, new byte[] {1})) {
            node.start();
            check(node.waitForInitialCreate(DEADLINE_S, TimeUnit.SECONDS), "created");
            check(two.getData().forPath("/kept").length == 1, "data");
        }
    }

    private void run() throws Exception {
        part("verbs", this::verbs);
        part("transactions", this::transactions);
        part("mutex", this::mutex);
        part("readWriteLock", this::readWriteLock);
        part("semaphore", this::semaphore);
        part("leaderLatch", this::leaderLatch);
        part("cache", this::cache);
        part("watches", this::watches);
        part("queue", this::queue);
        part("counters", this::counters);
        part("doubleBarrier", this::doubleBarrier);
        part("ttlNode", this::ttlNode);
        one.close();
        two.close();
        System.out.println("DONE");
    }

    public static void main(String[] args) throws Exception {
        int exitCode = 1;
        try {
            new CuratorCheck(args[0]).run();
            exitCode = 0;
        } catch (Throwable failure) {
            failure.printStackTrace();
        }
        System.exit(exitCode);
    }
}
