// Reads the stream behind a SNAP packet as a learner does, says what it found, and writes it as a leader does.
// Arguments: the stream, where the report goes, where the new stream goes. Sources: Learner.syncWithLeader,
// LearnerHandler.run.

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.jute.BinaryInputArchive;
import org.apache.jute.BinaryOutputArchive;
import org.apache.zookeeper.server.DataTree;
import org.apache.zookeeper.server.ZKDatabase;
import org.apache.zookeeper.server.persistence.FileTxnSnapLog;

public class SnapPeer {
    public static void main(String[] args) throws Exception {
        File scratch = Files.createTempDirectory("snappeer").toFile();
        ZKDatabase database = new ZKDatabase(new FileTxnSnapLog(scratch, scratch));
        String signature;
        long left = 0;
        try (InputStream in = new BufferedInputStream(new FileInputStream(args[0]))) {
            BinaryInputArchive archive = BinaryInputArchive.getArchive(in);
            database.deserializeSnapshot(archive);
            signature = archive.readString("signature");
            while (in.read() >= 0) {
                left++;
            }
        }
        DataTree tree = database.getDataTree();
        try (PrintWriter report = new PrintWriter(args[1])) {
            report.println("signature " + signature);
            report.println("left " + left);
            report.println("znodes " + tree.getNodeCount());
            report.println("digest " + Long.toUnsignedString(tree.getTreeDigest()));
            report.println("sessions " + new TreeMap<>(database.getSessionWithTimeOuts()));
            TreeMap<Long, TreeSet<String>> owned = new TreeMap<>();
            for (long session : tree.getSessions()) {
                owned.put(session, new TreeSet<>(tree.getEphemerals(session)));
            }
            report.println("ephemerals " + owned);
        }
        try (OutputStream out = new BufferedOutputStream(new FileOutputStream(args[2]))) {
            BinaryOutputArchive archive = BinaryOutputArchive.getArchive(out);
            database.serializeSnapshot(archive);
            archive.writeString("BenWasHere", "signature");
        }
        System.exit(0);
    }
}
