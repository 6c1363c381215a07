// The embedded store: one SQLite file, read from memory, written by group commit.
//
// Transactions that arrive while a commit runs are gathered into the next one; a thread of its own
// waits for the disk. See docs/decisions/store-in-memory.md.
#pragma once

#include <filesystem>
#include <memory>

#include "base/async.h"
#include "base/result.h"
#include "store/store.h"

namespace hob::store {

inline constexpr size_t kPendingTransactionsMax = 10'000;  // waiting for the disk; beyond: kLimit
inline constexpr size_t kBatchTransactionsMax = 1'000;     // of one durable commit
inline constexpr size_t kBatchBytesMax =
    16 * 1024 * 1024;  // likewise, exceeded by one transaction at most

struct SqliteOptions {
  size_t history_changes_max = kHistoryChangesMax;
};

// Blocks while it checks and loads the file; makes it if there is none (its directory must exist).
// The store belongs to `executor`'s loop and must be destroyed on it, after every watch and every
// waiting commit() has ended. kCorrupt: the file is damaged, empty, not Hob's or of a newer
// version: nothing was changed in it. kUnavailable: another process has it open, or the disk
// failed. Messages name the file and what to do.
//
// A full disk: commit() answers kUnavailable, reads and watches go on, and commits work again once
// there is room. A commit() that is cancelled while it waits may or may not be written; it is whole
// in either case.
Result<std::unique_ptr<Store>> open_sqlite(std::filesystem::path file, Executor executor,
                                           SqliteOptions options = {});

}  // namespace hob::store
