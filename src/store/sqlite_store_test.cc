#include "store/sqlite_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <fstream>

#include "store/store_suite.h"

namespace hob::store {
namespace {

// A directory of its own that goes with it.
class Place {
 public:
  Place() {
    std::string name = (std::filesystem::temp_directory_path() / "hob-store-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~Place() { (void)remove_tree(path_); }
  Place(const Place&) = delete;
  std::filesystem::path file() const { return path_ / "store.db"; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct Sqlite {
  static constexpr bool kDurable = true;
  Place place{};
  Result<std::unique_ptr<Store>> open(const Executor& executor) {
    return open_sqlite(place.file(), executor, {.history_changes_max = kSuiteHistory});
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, StoreSuite, Sqlite);
INSTANTIATE_TYPED_TEST_SUITE_P(Sqlite, DurableStoreSuite, Sqlite);

// What goes wrong with files.
class SqliteStoreFile : public StoreSuite<Sqlite> {
 protected:
  std::filesystem::path file() const { return maker_.place.file(); }
  void close() { store_.reset(); }
  // "ok", or the code; every message names the file.
  std::string reopen() {
    store_.reset();
    auto opened = maker_.open(executor());
    if (opened) return "ok";
    EXPECT_NE(opened.error().message.find(file().string()), std::string::npos)
        << opened.error().message;
    message_ = opened.error().message;
    return word(opened.error().code);
  }
  void sql(const char* text) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(file().c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, text, nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(database);
    sqlite3_close(database);
  }
  void overwrite(std::streamoff at, const std::string& bytes) {
    std::fstream stream(file(), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(at);
    stream << bytes;
  }
  std::string message_;
};

TEST_F(SqliteStoreFile, IsReadableByItsOwnerAlone) {
  put("/a", "1");
  struct stat found{};
  for (const char* suffix : {"", "-wal", "-shm", ".lock"}) {
    ASSERT_EQ(stat((file().string() + suffix).c_str(), &found), 0) << suffix;
    EXPECT_EQ(found.st_mode & 0777, 0600u) << suffix;
  }
}

TEST_F(SqliteStoreFile, OneProcessOnly) {
  auto second = maker_.open(executor());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kUnavailable);
  EXPECT_NE(second.error().message.find("in use"), std::string::npos);
  put("/a", "1");  // and the first is not disturbed
}

TEST_F(SqliteStoreFile, AnEmptyFileIsNotAnEmptyStore) {
  put("/a", "1");
  close();
  std::filesystem::resize_file(file(), 0);
  EXPECT_EQ(reopen(), "corrupt");
  EXPECT_EQ(std::filesystem::file_size(file()), 0u) << "nothing was changed in it";
}

TEST_F(SqliteStoreFile, ALostFileWhoseLogIsThereIsNotAnEmptyStore) {
  close();
  std::filesystem::remove(file());
  std::ofstream(file().string() + "-wal") << "log";
  EXPECT_EQ(reopen(), "corrupt");
}

TEST_F(SqliteStoreFile, RefusesWhatIsNotAStore) {
  close();
  std::ofstream(file()) << std::string(8192, 'x');
  EXPECT_EQ(reopen(), "corrupt");
  std::filesystem::remove(file());
  sql("CREATE TABLE t(a)");
  EXPECT_EQ(reopen(), "corrupt");
  EXPECT_NE(message_.find("not one of Hob's"), std::string::npos) << message_;
}

TEST_F(SqliteStoreFile, RefusesANewerFormat) {
  close();
  sql("PRAGMA user_version=2");
  EXPECT_EQ(reopen(), "corrupt");
  EXPECT_NE(message_.find("newer version"), std::string::npos) << message_;
}

TEST_F(SqliteStoreFile, FindsATruncatedFile) {
  for (int i = 0; i < 100; ++i) put(fmt::format("/{}", i), std::string(1000, 'v'));
  close();
  std::filesystem::resize_file(file(), std::filesystem::file_size(file()) / 2);
  EXPECT_EQ(reopen(), "corrupt");
}

TEST_F(SqliteStoreFile, FindsDamageAnywhere) {
  for (int i = 0; i < 100; ++i) put(fmt::format("/{}", i), std::string(1000, 'v'));
  close();
  const auto size = static_cast<std::streamoff>(std::filesystem::file_size(file()));
  std::ifstream stream(file(), std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(stream)), {});
  int found = 0;
  for (std::streamoff at = 4096; at < size; at += 3967) {
    overwrite(at, std::string(64, '\x5a'));
    const std::string result = reopen();
    if (result == "ok") {
      // Only bytes that hold no record may be damaged unnoticed: all of them must be as they were.
      open();
      EXPECT_EQ(run(store().list("/"))->entries.size(), 100u) << at;
      close();
    } else {
      EXPECT_EQ(result, "corrupt") << at;
      ++found;
    }
    overwrite(0, good);
  }
  EXPECT_GT(found, 10);
  EXPECT_EQ(reopen(), "ok");
}

TEST_F(SqliteStoreFile, ARecordUnderAnothersValueIsFound) {
  put("/a", "1");
  put("/b", "2");
  close();
  sql("UPDATE record SET value=CAST('2' AS BLOB) WHERE key='/a'");
  EXPECT_EQ(reopen(), "corrupt");
  EXPECT_NE(message_.find("/a"), std::string::npos) << message_;
}

TEST_F(SqliteStoreFile, LeftoversOfAnInterruptedCreationDoNoHarm) {
  close();
  (void)remove_tree(file());
  std::ofstream(file().string() + ".new") << "half";
  std::ofstream(file().string() + ".new-wal") << "half";
  EXPECT_EQ(reopen(), "ok");
}

// A full disk refuses writes, and nothing else; once there is room, writes work again.
TEST(SqliteStoreDisk, FullDiskRefusesWritesOnly) {
  Place place;
  const std::filesystem::path mount_point = place.path() / "small";
  std::filesystem::create_directory(mount_point);
  if (mount("hob-store-test", mount_point.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "only root can mount the small disk this needs";
  }
  {
    boost::asio::io_context loop;
    auto opened = open_sqlite(mount_point / "store.db", loop.get_executor());
    ASSERT_TRUE(opened) << opened.error().message;
    Store& store = **opened;
    int written = 0;
    AsyncScope scope(loop.get_executor());
    scope.spawn("test", [&]() -> Async<> {
      Result<Revision> done = Revision{0};
      while (done) {
        done = co_await store.commit(
            {.put = {{fmt::format("/{}", written), std::string(50'000, 'v')}}});
        if (done) ++written;
        if (written > 100) co_return;  // the disk is not small: the checks below say so
      }
      EXPECT_EQ(done.error().code, Code::kUnavailable);
      EXPECT_NE(done.error().message.find("full"), std::string::npos) << done.error().message;
      const auto listing = co_await store.list("/");
      EXPECT_EQ(listing->entries.size(), static_cast<size_t>(written)) << "what failed is not seen";
      EXPECT_EQ(listing->revision, written);
    });
    loop.run();
    EXPECT_GT(written, 3);
    EXPECT_LT(written, 100);
    ASSERT_EQ(mount("", mount_point.c_str(), "tmpfs", MS_REMOUNT, "size=8m"), 0);
    loop.restart();
    scope.spawn("test", [&]() -> Async<> {
      const auto done = co_await store.commit({.put = {{"/after", "1"}}});
      EXPECT_TRUE(done) << done.error().message;
    });
    loop.run();
    opened->reset();
    auto again = open_sqlite(mount_point / "store.db", loop.get_executor());
    EXPECT_TRUE(again) << again.error().message;
    if (again) {
      loop.restart();
      scope.spawn("test", [&]() -> Async<> {
        const auto listing = co_await (*again)->list("/");
        EXPECT_EQ(listing->entries.size(), static_cast<size_t>(written) + 1);
      });
      loop.run();
    }
  }
  EXPECT_EQ(umount(mount_point.c_str()), 0);
}

}  // namespace
}  // namespace hob::store
