// The SQLite file behind the embedded store: its format, its checks, and durable writes. Blocks;
// private to this room.
//
// A table of (key, value, revision, checksum) and one row with the store's revision. WAL with
// synchronous=FULL: when write() returns, the commit survives a power cut. FILE.lock is held while
// the file is open, so that two processes never use one store; reading along with `sqlite3` stays
// possible.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "store/image.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hob::store {

struct SqliteClose {
  void operator()(sqlite3* database) const;
  void operator()(sqlite3_stmt* statement) const;
};

class SqliteFile {
 public:
  // Opens; makes the file if there is none, whole or not at all. kCorrupt: damaged, not ours, or of
  // a newer version; kUnavailable: in use by another process, or the disk failed. The message names
  // the file and what to do.
  static Result<SqliteFile> open(const std::filesystem::path& path);

  struct Content {
    std::vector<Write> records{};  // in order of key
    Revision revision = 0;
  };
  // Everything in it, each record checked. kCorrupt as above.
  Result<Content> load();
  // All of them in one durable commit, or none. kUnavailable: the disk is full or failed; may work
  // later.
  Result<void> write(const std::vector<Write>& writes, Revision revision);

 private:
  SqliteFile() = default;
  Result<void> prepare();
  Result<void> write_all(const std::vector<Write>& writes, Revision revision);

  std::filesystem::path path_;
  Fd lock_;
  std::unique_ptr<sqlite3, SqliteClose> database_;
  std::unique_ptr<sqlite3_stmt, SqliteClose> put_;
  std::unique_ptr<sqlite3_stmt, SqliteClose> remove_;
  std::unique_ptr<sqlite3_stmt, SqliteClose> set_revision_;
};

}  // namespace hob::store
