#include "builder/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <set>

#include "base/digest.h"
#include "builder/ignore.h"
#include "image/content_digest.h"

namespace hob::builder {

namespace {

constexpr int kBuildLevel = 6;  // of zstd: a tenth smaller than 3, at 120 MB/s of one core
constexpr int kOnceLevel = 12;

struct ArchiveFree {
  void operator()(struct archive* archive) const { archive_write_free(archive); }
};
struct EntryFree {
  void operator()(struct archive_entry* entry) const { archive_entry_free(entry); }
};
struct StreamFree {
  void operator()(ZSTD_CStream* stream) const { ZSTD_freeCStream(stream); }
};

}  // namespace

struct LayerWriter::State {
  Fd file;
  Sha256Hasher archive_hash;
  Sha256Hasher file_hash;
  std::unique_ptr<ZSTD_CStream, StreamFree> stream{ZSTD_createCStream()};
  std::string out;
  Layer layer;
  int failed = 0;  // errno of a write that failed
  std::unique_ptr<struct archive, ArchiveFree> archive{archive_write_new()};

  bool put(ZSTD_outBuffer& buffer) {
    const std::string_view bytes_out(out.data(), buffer.pos);
    file_hash.update(bytes_out);
    for (size_t done = 0; done < bytes_out.size();) {
      const ssize_t wrote = ::write(file.get(), bytes_out.data() + done, bytes_out.size() - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) {
        failed = errno;
        return false;
      }
      done += static_cast<size_t>(wrote);
    }
    layer.size += buffer.pos;
    buffer.pos = 0;
    return true;
  }

  bool compress(std::string_view content, ZSTD_EndDirective directive) {
    ZSTD_inBuffer in{.src = content.data(), .size = content.size(), .pos = 0};
    while (true) {
      ZSTD_outBuffer buffer{.dst = out.data(), .size = out.size(), .pos = 0};
      const size_t left = ZSTD_compressStream2(stream.get(), &buffer, &in, directive);
      if (ZSTD_isError(left) != 0) return false;
      if (!put(buffer)) return false;
      if (directive == ZSTD_e_end ? left == 0 : in.pos == in.size) return true;
    }
  }

  static la_ssize_t on_write(struct archive* /*archive*/, void* state, const void* bytes,
                             size_t size) {
    auto* self = static_cast<State*>(state);
    const std::string_view content(static_cast<const char*>(bytes), size);
    self->archive_hash.update(content);
    if (!self->compress(content, ZSTD_e_continue)) return -1;
    return static_cast<la_ssize_t>(size);
  }

  std::unexpected<Error> error(const char* doing) {
    if (failed != 0) return fail_errno(failed, doing);
    return fail(Code::kUnavailable, "{}: {}", doing,
                archive_error_string(archive.get()) == nullptr
                    ? "failed"
                    : archive_error_string(archive.get()));
  }
};

LayerWriter::LayerWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
LayerWriter::LayerWriter(LayerWriter&&) noexcept = default;
LayerWriter::~LayerWriter() = default;

Result<LayerWriter> LayerWriter::open(const std::filesystem::path& file, Effort effort) {
  auto state = std::make_unique<State>();
  state->file =
      Fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!state->file) return fail_errno(errno, "making " + file.string());
  state->out.resize(ZSTD_CStreamOutSize());
  ZSTD_CCtx_setParameter(state->stream.get(), ZSTD_c_compressionLevel,
                         effort == Effort::kOnce ? kOnceLevel : kBuildLevel);
  struct archive* archive = state->archive.get();
  archive_write_set_format_pax_restricted(archive);
  archive_write_set_bytes_per_block(archive, 0);
  // The last block is not filled up: a layer's length is its content's.
  archive_write_set_bytes_in_last_block(archive, 1);
  if (archive_write_open(archive, state.get(), nullptr, State::on_write, nullptr) != ARCHIVE_OK) {
    return state->error("beginning a layer");
  }
  return LayerWriter(std::move(state));
}

Result<void> LayerWriter::add(const Entry& entry) {
  if (++state_->layer.entries > kLayerEntriesMax) {
    return fail(Code::kLimit, "a layer of more than {} files", kLayerEntriesMax);
  }
  state_->layer.bytes += entry.size;
  if (state_->layer.bytes > kLayerBytesMax) {
    return fail(Code::kLimit, "a layer of more than {} MiB", kLayerBytesMax >> 20);
  }
  const std::unique_ptr<struct archive_entry, EntryFree> made(archive_entry_new());
  archive_entry_copy_pathname(made.get(), entry.path.c_str());
  archive_entry_set_mode(made.get(), entry.mode);
  archive_entry_set_uid(made.get(), entry.owner);
  archive_entry_set_gid(made.get(), entry.group);
  archive_entry_set_mtime(made.get(), std::min(entry.modified, kLayerTime), 0);
  archive_entry_set_size(made.get(), static_cast<la_int64_t>(entry.size));
  if (entry.hard_link)
    archive_entry_copy_hardlink(made.get(), entry.target.c_str());
  else if (S_ISLNK(entry.mode))
    archive_entry_copy_symlink(made.get(), entry.target.c_str());
  for (const auto& [name, value] : entry.attributes) {
    archive_entry_xattr_add_entry(made.get(), name.c_str(), value.data(), value.size());
  }
  if (archive_write_header(state_->archive.get(), made.get()) < ARCHIVE_WARN) {
    return state_->error("writing a layer");
  }
  return {};
}

Result<void> LayerWriter::write(std::string_view content) {
  while (!content.empty()) {
    const la_ssize_t wrote =
        archive_write_data(state_->archive.get(), content.data(), content.size());
    if (wrote <= 0) return state_->error("writing a layer");
    content.remove_prefix(static_cast<size_t>(wrote));
  }
  return {};
}

Result<Layer> LayerWriter::finish() {
  if (archive_write_close(state_->archive.get()) != ARCHIVE_OK ||
      !state_->compress({}, ZSTD_e_end)) {
    return state_->error("ending a layer");
  }
  state_->layer.diff_id = image::to_digest(state_->archive_hash.finish());
  state_->layer.digest = image::to_digest(state_->file_hash.finish());
  return state_->layer;
}

namespace {

// An entry of a source's layer, with the content of a regular file.
using TakeEntry =
    std::function<Result<void>(const LayerWriter::Entry& entry, std::string_view content)>;

Result<void> each_entry(const Source& source, const std::string& prefix,
                        const std::vector<std::string>& inputs,
                        const std::vector<std::string>& without, const TakeEntry& take) {
  IgnoreRules ignore;
  for (const std::string& rule : without) HOB_CHECK(ignore.add("", rule));
  const auto wanted = [&](const SourceFile& file) {
    return inputs.empty() || (file.kind != SourceFile::Kind::kDirectory &&
                              std::ranges::any_of(inputs, [&](const std::string& pattern) {
                                return glob_matches(pattern, file.path);
                              }));
  };
  HOB_CHECK(take({.path = prefix, .mode = S_IFDIR | 0755}, ""));
  std::set<std::string> made;
  std::set<std::string> ignored_folders;
  for (const SourceFile& file : source.files()) {
    const std::string above = file.path.substr(0, std::min(file.path.rfind('/'), file.path.size()));
    const bool is_directory = file.kind == SourceFile::Kind::kDirectory;
    if ((above != file.path && ignored_folders.contains(above)) ||
        ignore.ignored(file.path, is_directory)) {
      if (is_directory) ignored_folders.insert(file.path);
      continue;
    }
    if (!wanted(file)) continue;
    if (file.path.substr(file.path.rfind('/') + 1).starts_with(".wh.")) {
      return fail(Code::kInvalid,
                  "{}: names that begin with \".wh.\" mean deletions in an image; "
                  "rename it",
                  file.path);
    }
    // Directories above a file that was picked out.
    for (size_t slash = file.path.find('/'); !inputs.empty() && slash != std::string::npos;
         slash = file.path.find('/', slash + 1)) {
      const std::string folder = file.path.substr(0, slash);
      if (!made.insert(folder).second) continue;
      HOB_CHECK(take({.path = prefix + "/" + folder, .mode = S_IFDIR | 0755}, ""));
    }
    LayerWriter::Entry entry{.path = prefix + "/" + file.path};
    const mode_t permissions = file.executable ? 0755 : 0644;
    switch (file.kind) {
      case SourceFile::Kind::kDirectory:
        entry.mode = S_IFDIR | 0755;
        break;
      case SourceFile::Kind::kLink:
        entry.mode = S_IFLNK | 0777;
        entry.target = file.target;
        break;
      case SourceFile::Kind::kFile:
        entry.mode = S_IFREG | permissions;
        break;
    }
    if (file.kind != SourceFile::Kind::kFile) {
      HOB_CHECK(take(entry, ""));
      continue;
    }
    HOB_TRY(const std::string content, source.read(file.path, kSourceBytesMax));
    entry.size = content.size();
    HOB_CHECK(take(entry, content));
  }
  return {};
}

}  // namespace

Result<void> add_source(LayerWriter& writer, const Source& source, const std::string& prefix,
                        const std::vector<std::string>& inputs,
                        const std::vector<std::string>& without) {
  return each_entry(source, prefix, inputs, without,
                    [&](const LayerWriter::Entry& entry, std::string_view content) -> Result<void> {
                      HOB_CHECK(writer.add(entry));
                      return writer.write(content);
                    });
}

Result<std::string> source_fingerprint(const Source& source, const std::string& prefix,
                                       const std::vector<std::string>& inputs,
                                       const std::vector<std::string>& without) {
  Sha256Hasher hasher;
  HOB_CHECK(
      each_entry(source, prefix, inputs, without,
                 [&](const LayerWriter::Entry& entry, std::string_view content) -> Result<void> {
                   // No name holds a NUL.
                   hasher.update(entry.path + '\0' + entry.target + '\0' +
                                 fmt::format("{:o} {}", entry.mode, content.size()) + '\0');
                   hasher.update(content);
                   return {};
                 }));
  return hex(hasher.finish());
}

}  // namespace hob::builder
