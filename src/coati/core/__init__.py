"""Core: what one server knows, pure: requests and txns in, bytes and notifications out.

How the modules are used together, in the order a write takes:

* `prepare.Preparer.prepare(request, zxid, now_ms)`: checks against the staged tree, stages the change and
  encodes the payload for the log. A refusal is a proposal too (an ErrorTxn, `err` set); nothing is raised.
* `tree.Tree.commit(change)` installs it, `triggers(change)` says which watches it concerns. `replay.apply(tree, header,
  txn, digest)` stages and commits a txn that somebody else prepared, for a follower and at recovery.
* `load.Loader` builds a tree from a snapshot's znodes, `export.Export` hands them out again, a slice at a time.
* `watches.Watches` holds who watches what; `answer.notifications(...)` turns triggers into frames by watcher.
* `answer.write_reply(op, xid, change)` is the reply to a delivered write; `answer.Answers` answers reads.
"""
