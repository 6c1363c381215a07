#include "builder/npm_registry.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <memory>

#include "base/digest.h"
#include "base/file.h"
#include "base/record.h"
#include "builder/version_range.h"
#include "image/transfer.h"

namespace hob::builder {

namespace {

namespace json = boost::json;
namespace fs = std::filesystem;

constexpr size_t kMetadataBytesMax = 32ULL << 20;
constexpr size_t kEntriesMax = 100'000;
// npm's own way to ask for less (github.com/npm/registry, package-metadata).
constexpr const char* kAbbreviated = "Accept: application/vnd.npm.install-v1+json";

struct ArchiveFree {
  void operator()(struct archive* archive) const { archive_read_free(archive); }
};
struct DigestFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

// Whether `version` begins with all the numbers of `wanted` and is no pre-release.
bool begins_with(std::string_view version, std::string_view wanted) {
  if (version.find('-') != std::string_view::npos) return false;
  return version == wanted || (version.starts_with(wanted) && version.size() > wanted.size() &&
                               version[wanted.size()] == '.');
}

const json::string* text_at(const json::object& object, std::string_view key) {
  const json::value* found = object.if_contains(key);
  return found == nullptr ? nullptr : found->if_string();
}

Result<void> download(image::Session& session, const NpmVersion& version, const fs::path& file) {
  image::Transfer transfer(session, {.url = version.archive});
  HOB_CHECK(transfer.start());
  if (transfer.status() != 200) {
    return fail(Code::kUnavailable, "{} answers {}", version.archive, transfer.status());
  }
  const Fd out(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!out) return fail_errno(errno, "making " + file.string());
  const std::unique_ptr<EVP_MD_CTX, DigestFree> digest(EVP_MD_CTX_new());
  EVP_DigestInit_ex(digest.get(), EVP_sha512(), nullptr);
  uint64_t bytes = 0;
  while (true) {
    HOB_TRY(std::string_view piece, transfer.read());
    if (piece.empty()) break;
    bytes += piece.size();
    if (bytes > kNpmPackageBytesMax) {
      return fail(Code::kLimit, "{} has more than {} MiB", version.archive,
                  kNpmPackageBytesMax >> 20);
    }
    EVP_DigestUpdate(digest.get(), piece.data(), piece.size());
    while (!piece.empty()) {
      const ssize_t wrote = ::write(out.get(), piece.data(), piece.size());
      if (wrote < 0) return fail_errno(errno, "writing " + file.string());
      piece.remove_prefix(static_cast<size_t>(wrote));
    }
  }
  std::string hash(64, '\0');
  EVP_DigestFinal_ex(digest.get(), reinterpret_cast<unsigned char*>(hash.data()), nullptr);
  if (version.integrity != "sha512-" + base64(hash)) {
    return fail(Code::kCorrupt, "{} is not what the registry said it is", version.archive);
  }
  return {};
}

// The name below `to` of an entry below `from`; nullopt: it is not below.
std::optional<fs::path> moved(const std::string& name, const NpmFiles& files) {
  if (name == files.from) return fs::path(files.to);
  if (!name.starts_with(files.from + "/")) return std::nullopt;
  const fs::path inside(name.substr(files.from.size() + 1));
  // An absolute one would take the place of what it is appended to.
  if (inside.is_absolute()) return std::nullopt;
  for (const fs::path& part : inside) {
    if (part == "..") return std::nullopt;
  }
  return fs::path(files.to) / inside;
}

Result<void> write_entry(struct archive* archive, const fs::path& path, mode_t mode) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!file) return fail_errno(errno, "making " + path.string());
  if (archive_read_data_into_fd(archive, file.get()) < ARCHIVE_WARN) {
    return fail(Code::kCorrupt, "{}: {}", path.string(), archive_error_string(archive));
  }
  if (::fchmod(file.get(), (mode & S_IXUSR) != 0 ? 0755 : 0644) != 0) {
    return fail_errno(errno, "chmod of " + path.string());
  }
  return {};
}

Result<size_t> unpack(const fs::path& file, const NpmFiles& files, const fs::path& root) {
  const std::unique_ptr<struct archive, ArchiveFree> archive(archive_read_new());
  archive_read_support_filter_gzip(archive.get());
  archive_read_support_format_tar(archive.get());
  if (archive_read_open_filename(archive.get(), file.c_str(), 64 * 1024) != ARCHIVE_OK) {
    return fail(Code::kCorrupt, "{}: {}", files.package, archive_error_string(archive.get()));
  }
  size_t taken = 0;
  uint64_t bytes = 0;
  struct archive_entry* entry = nullptr;
  for (size_t i = 0; archive_read_next_header(archive.get(), &entry) == ARCHIVE_OK; ++i) {
    if (i == kEntriesMax) return fail(Code::kLimit, "{} has too many files", files.package);
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    bytes += static_cast<uint64_t>(archive_entry_size(entry));
    if (bytes > 2 * kNpmPackageBytesMax) {
      return fail(Code::kLimit, "{} is too large", files.package);
    }
    const char* name = archive_entry_pathname(entry);
    const std::optional<fs::path> to = name == nullptr ? std::nullopt : moved(name, files);
    if (!to) continue;
    HOB_CHECK(write_entry(archive.get(), root / *to, archive_entry_mode(entry)));
    ++taken;
  }
  return taken;
}

}  // namespace

Result<NpmVersion> choose_npm_version(std::string_view metadata, std::string_view wanted) {
  HOB_TRY(const json::value parsed, record::parse(metadata));
  const json::object* root = parsed.if_object();
  const json::value* versions = root == nullptr ? nullptr : root->if_contains("versions");
  if (versions == nullptr || !versions->is_object()) {
    return fail(Code::kCorrupt, "the registry's answer holds no versions");
  }
  NpmVersion newest;
  std::optional<Version> newest_number;
  for (const auto& [name, value] : versions->get_object()) {
    const std::optional<Version> number = parse_version(name);
    if (!number || !begins_with(name, wanted) || (newest_number && *number <= *newest_number)) {
      continue;
    }
    const json::object* dist = nullptr;
    if (const json::object* each = value.if_object()) {
      if (const json::value* found = each->if_contains("dist")) dist = found->if_object();
    }
    const json::string* archive = dist == nullptr ? nullptr : text_at(*dist, "tarball");
    const json::string* integrity = dist == nullptr ? nullptr : text_at(*dist, "integrity");
    if (archive == nullptr || integrity == nullptr) continue;
    newest_number = number;
    newest = {.version = std::string(name),
              .archive = std::string(*archive),
              .integrity = std::string(*integrity)};
  }
  if (!newest_number) return fail(Code::kNotFound, "there is no version {}", wanted);
  return newest;
}

Result<std::string> unpack_npm(const std::string& registry, const NpmFiles& files,
                               const fs::path& root, const std::atomic<bool>& cancelled) {
  image::Session session(cancelled);
  NpmVersion version;
  {
    image::Transfer transfer(session,
                             {.url = registry + "/" + files.package, .headers = {kAbbreviated}});
    HOB_CHECK(context(transfer.start(), "asking {} for {}", registry, files.package));
    if (transfer.status() == 404) {
      return fail(Code::kNotFound, "{} has no package {}", registry, files.package);
    }
    if (transfer.status() != 200) {
      return fail(Code::kUnavailable, "{} answers {} for {}", registry, transfer.status(),
                  files.package);
    }
    HOB_TRY(const std::string metadata, transfer.read_all(kMetadataBytesMax));
    HOB_TRY(version, context(choose_npm_version(metadata, files.version), "{}", files.package));
  }
  const fs::path archive = root / ".npm-archive";
  HOB_CHECK(context(download(session, version, archive), "fetching {}", files.package));
  Result<size_t> taken = unpack(archive, files, root);
  ::unlink(archive.c_str());
  if (!taken) return fail(taken.error());
  if (*taken == 0) {
    return fail(Code::kNotFound, "{} {} has nothing at {}", files.package, version.version,
                files.from);
  }
  return version.version;
}

}  // namespace hob::builder
