#include "store/sqlite_file.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/digest.h"

namespace hob::store {

namespace {

constexpr int kApplicationId = 0x486f6253;  // "HobS": tells our files from others'
constexpr int kVersion = 1;
constexpr const char* kDamagedAdvice =
    "Stop Hob, keep a copy of the file and of its -wal, then restore a backup or salvage it with "
    "`sqlite3 FILE .recover`; running tasks are not affected";

using Database = std::unique_ptr<sqlite3, SqliteClose>;
using Statement = std::unique_ptr<sqlite3_stmt, SqliteClose>;

std::unexpected<Error> sqlite_error(sqlite3* database, int code, std::string_view doing) {
  const int primary = code & 0xff;
  const char* message = database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code);
  if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB) {
    return fail(Code::kCorrupt, "{}: {}. {}", doing, message, kDamagedAdvice);
  }
  return fail(Code::kUnavailable, "{}: {}", doing, message);
}

Result<Database> open_database(const std::filesystem::path& path) {
  sqlite3* raw = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  Database database(raw);
  if (code != SQLITE_OK) return sqlite_error(raw, code, "opening");
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, 5'000);  // somebody looks into the file with sqlite3
  return database;
}

Result<void> execute(sqlite3* database, const char* sql) {
  const int code = sqlite3_exec(database, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return sqlite_error(database, code, sql);
  return {};
}

Result<Statement> prepare(sqlite3* database, std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v3(database, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (code != SQLITE_OK) return sqlite_error(database, code, sql);
  return Statement(raw);
}

// The first column of the first row as text; empty: no row.
Result<std::string> query(sqlite3* database, std::string_view sql) {
  HOB_TRY(const Statement statement, prepare(database, sql));
  const int code = sqlite3_step(statement.get());
  if (code == SQLITE_DONE) return std::string();
  if (code != SQLITE_ROW) return sqlite_error(database, code, sql);
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement.get(), 0));
  return std::string(text == nullptr ? "" : text);
}

// Of what the row says, so that a flipped bit, or a value under another's key, is found when it is
// loaded.
int64_t checksum(std::string_view key, std::string_view value, Revision revision) {
  Sha256Hasher hasher;
  hasher.update(fmt::format("{}\n{}\n", key, revision));
  hasher.update(value);
  const Sha256 digest = hasher.finish();
  int64_t sum = 0;
  std::memcpy(&sum, digest.data(), sizeof sum);
  return sum;
}

Result<Fd> take_lock(const std::filesystem::path& path) {
  const std::string lock_path = path.string() + ".lock";
  Fd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return fail_errno(errno, "opening " + lock_path);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::kUnavailable, "in use by another process (it holds {})", lock_path);
  }
  return lock;
}

// Made beside its place and renamed, so that a crash leaves no half-made file: one that is there is
// whole.
Result<void> create(const std::filesystem::path& path) {
  const std::filesystem::path fresh = path.string() + ".new";
  HOB_CHECK(remove_tree(fresh));
  HOB_CHECK(remove_tree(fresh.string() + "-wal"));
  HOB_CHECK(remove_tree(fresh.string() + "-shm"));
  // Only root reads it; SQLite gives its other files the mode of this one.
  Fd file(::open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, "making " + fresh.string());
  {
    HOB_TRY(const Database database, open_database(fresh));
    HOB_CHECK(execute(database.get(), "PRAGMA journal_mode=WAL"));
    HOB_CHECK(
        execute(database.get(), fmt::format("PRAGMA application_id={}", kApplicationId).c_str()));
    HOB_CHECK(execute(database.get(), fmt::format("PRAGMA user_version={}", kVersion).c_str()));
    HOB_CHECK(execute(
        database.get(),
        "BEGIN;"
        "CREATE TABLE record(key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL,"
        " revision INTEGER NOT NULL, checksum INTEGER NOT NULL);"
        "CREATE TABLE store(id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);"
        "INSERT INTO store VALUES(1, 0);"
        "COMMIT"));
  }  // closing it moves the log into the file and removes the log
  if (fsync(file.get()) != 0) return fail_errno(errno, "syncing " + fresh.string());
  if (rename(fresh.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "renaming " + fresh.string());
  return sync_directory(path.parent_path());
}

// Before SQLite sees it: it would take an empty file for a new database, and throw away the log of
// a lost one.
Result<void> check_present(const std::filesystem::path& path) {
  struct stat found{};
  if (stat(path.c_str(), &found) != 0) {
    if (errno != ENOENT) return fail_errno(errno, "looking");
    const std::string log = path.string() + "-wal";
    if (access(log.c_str(), F_OK) == 0) {
      return fail(Code::kCorrupt, "the file is gone, but its log {} is there. {}", log,
                  kDamagedAdvice);
    }
    return create(path);
  }
  if (found.st_size == 0) return fail(Code::kCorrupt, "the file is empty. {}", kDamagedAdvice);
  return {};
}

}  // namespace

void SqliteClose::operator()(sqlite3* database) const { sqlite3_close_v2(database); }
void SqliteClose::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Result<SqliteFile> SqliteFile::open(const std::filesystem::path& path) {
  SqliteFile file;
  file.path_ = path;
  const auto opened = [&]() -> Result<void> {
    HOB_TRY(file.lock_, take_lock(path));
    HOB_CHECK(check_present(path));
    HOB_TRY(file.database_, open_database(path));
    return file.prepare();
  };
  HOB_CHECK(context(opened(), "the store {}", path.string()));
  return file;
}

Result<void> SqliteFile::prepare() {
  sqlite3* database = database_.get();
  HOB_TRY(const std::string application, query(database, "PRAGMA application_id"));
  if (application != std::to_string(kApplicationId)) {
    return fail(Code::kCorrupt, "an SQLite file, but not one of Hob's. {}", kDamagedAdvice);
  }
  HOB_TRY(const std::string version, query(database, "PRAGMA user_version"));
  if (version != std::to_string(kVersion)) {
    return fail(Code::kCorrupt,
                "format {}, this hobd reads {}: start the newer version that wrote it", version,
                kVersion);
  }
  HOB_TRY(const std::string mode, query(database, "PRAGMA journal_mode=WAL"));
  if (mode != "wal")
    return fail(Code::kUnavailable, "the file system does not do write-ahead logging");
  HOB_CHECK(execute(database,
                    "PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
                    "PRAGMA journal_size_limit=67108864"));
  HOB_TRY(const std::string check, query(database, "PRAGMA quick_check(1)"));
  if (check != "ok") return fail(Code::kCorrupt, "{}. {}", check, kDamagedAdvice);
  HOB_TRY(put_,
          store::prepare(
              database,
              "INSERT INTO record VALUES(?1, ?2, ?3, ?4) ON CONFLICT(key) DO UPDATE SET "
              "value=excluded.value, revision=excluded.revision, checksum=excluded.checksum"));
  HOB_TRY(remove_, store::prepare(database, "DELETE FROM record WHERE key=?1"));
  HOB_TRY(set_revision_, store::prepare(database, "UPDATE store SET revision=?1"));
  return {};
}

Result<SqliteFile::Content> SqliteFile::load() {
  const auto read = [&]() -> Result<Content> {
    Content content;
    HOB_TRY(const Statement store,
            store::prepare(database_.get(), "SELECT revision FROM store WHERE id=1"));
    if (sqlite3_step(store.get()) != SQLITE_ROW) {
      return fail(Code::kCorrupt, "its revision is missing. {}", kDamagedAdvice);
    }
    content.revision = sqlite3_column_int64(store.get(), 0);
    HOB_TRY(const Statement rows,
            store::prepare(database_.get(),
                           "SELECT key, value, revision, checksum FROM record ORDER BY key"));
    for (;;) {
      const int code = sqlite3_step(rows.get());
      if (code == SQLITE_DONE) return content;
      if (code != SQLITE_ROW) return sqlite_error(database_.get(), code, "reading");
      const auto text = [&](int column) {
        const auto* bytes = static_cast<const char*>(sqlite3_column_blob(rows.get(), column));
        return std::string(bytes == nullptr ? "" : bytes,
                           static_cast<size_t>(sqlite3_column_bytes(rows.get(), column)));
      };
      Write record{.key = text(0),
                   .value = std::make_shared<const std::string>(text(1)),
                   .revision = sqlite3_column_int64(rows.get(), 2)};
      if (checksum(record.key, *record.value, record.revision) !=
              sqlite3_column_int64(rows.get(), 3) ||
          record.revision > content.revision) {
        return fail(Code::kCorrupt, "the record {} is not what its checksum says. {}", record.key,
                    kDamagedAdvice);
      }
      content.records.push_back(std::move(record));
    }
  };
  return context(read(), "the store {}", path_.string());
}

Result<void> SqliteFile::write(const std::vector<Write>& writes, Revision revision) {
  Result<void> written = write_all(writes, revision);
  if (!written && sqlite3_get_autocommit(database_.get()) == 0) {
    // The cause is already an error; a rollback that fails, too, leaves a transaction that the next
    // BEGIN reports.
    (void)execute(database_.get(), "ROLLBACK");
  }
  return context(std::move(written), "writing {}", path_.string());
}

Result<void> SqliteFile::write_all(const std::vector<Write>& writes, Revision revision) {
  sqlite3* database = database_.get();
  const auto run = [&](sqlite3_stmt* statement, std::string_view doing) -> Result<void> {
    const int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (code != SQLITE_DONE) return sqlite_error(database, code, doing);
    return {};
  };
  HOB_CHECK(execute(database, "BEGIN IMMEDIATE"));
  for (const Write& write : writes) {
    sqlite3_stmt* statement = write.value ? put_.get() : remove_.get();
    sqlite3_bind_text(statement, 1, write.key.data(), static_cast<int>(write.key.size()),
                      SQLITE_STATIC);
    if (write.value) {
      // A null pointer would bind NULL, which an empty value is not.
      const char* bytes = write.value->empty() ? "" : write.value->data();
      sqlite3_bind_blob(statement, 2, bytes, static_cast<int>(write.value->size()), SQLITE_STATIC);
      sqlite3_bind_int64(statement, 3, write.revision);
      sqlite3_bind_int64(statement, 4, checksum(write.key, *write.value, write.revision));
    }
    HOB_CHECK(run(statement, write.key));
  }
  sqlite3_bind_int64(set_revision_.get(), 1, revision);
  HOB_CHECK(run(set_revision_.get(), "revision"));
  return execute(database, "COMMIT");
}

}  // namespace hob::store
