// Package store is the node's one database: records, intents and id ranges that
// could not be rebuilt if they were lost.
//
// Start reading at Open and DB.Update. A record is JSON under a kind and a key.
// Writes come in two strengths:
//
//   - Synced (Put, Delete, Update): once it returned, a power cut does not take it back.
//   - Lazy (PutLazy, DeleteLazy, UpdateLazy): once it returned, the end of this
//     process, SIGKILL included, does not take it back; a power cut may. For
//     what can be found out again, such as whether a process still runs. Lazy and
//     synced writes take effect in order: no power cut keeps a write and loses an earlier one.
//
// On disk: a bbolt file (PATH) and beside it a journal of fixed size
// (PATH-journal) that holds the writes since the latest checkpoint. A synced write is one
// write of its frame to the journal with O_DSYNC, 0.13 ms where bbolt's commit
// takes five times that; a lazy one stays in the page cache. The journal is
// overwritten in place, so that no file system metadata changes. When it is
// three quarters full, and at Close, its content goes to bbolt in one synced
// transaction that also advances the epoch; frames of an earlier epoch mean nothing. Writers
// that wait at the same time share one write (group commit).
//
// A file that cannot be understood is never deleted: it is renamed to
// PATH.corrupt-TIME, its journal likewise, and the DB begins empty; see
// DB.Quarantined. A file of a newer schema is refused untouched.
//
// Lock order: syncMu, mu. Neither is held while a caller's code runs, but for the
// function given to Update, which runs under mu and so must not call the DB.
//
// To add a kind of record: a Kind constant in the package that owns it, nothing here.
// To change the shape of an old one: raise schema, add a function to
// migrations, and put a file of the old version into testdata.
package store
