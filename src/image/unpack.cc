#include "image/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "base/assert.h"
#include "image/content_digest.h"
#include "image/layer_tree.h"

namespace hob::image {

namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kAufsPrefix =
    ".wh..wh.";  // AUFS's own book-keeping, but for the opaque mark
constexpr std::string_view kOpaqueName = ".wh..wh..opq";
constexpr size_t kPieceBytes = 128 * 1024;
constexpr size_t kShownNameBytesMax = 200;

struct ArchiveCloser {
  void operator()(archive* handle) const { archive_read_free(handle); }
};
using Archive = std::unique_ptr<archive, ArchiveCloser>;

std::string shown(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, kShownNameBytesMax)) {
    text.push_back(static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c);
  }
  return text;
}

std::string_view text_of(const char* text) {
  return text == nullptr ? std::string_view() : std::string_view(text);
}

// The first of the two archives: takes the compression off (libarchive's "raw" format).
class Decompressor {
 public:
  Decompressor(ByteSource& source, const UnpackLimits& limits) : source_(source), limits_(limits) {}

  Result<void> open() {
    handle_.reset(archive_read_new());
    archive_read_support_filter_gzip(handle_.get());
    archive_read_support_filter_zstd(handle_.get());
    archive_read_support_format_raw(handle_.get());
    archive_read_support_format_empty(handle_.get());
    archive_read_set_callback_data(handle_.get(), this);
    archive_read_set_read_callback(handle_.get(), &Decompressor::on_read);
    if (archive_read_open1(handle_.get()) != ARCHIVE_OK) return failure();
    archive_entry* entry = nullptr;
    const int code = archive_read_next_header(handle_.get(), &entry);
    ended_ = code == ARCHIVE_EOF;
    if (code != ARCHIVE_OK && !ended_) return failure();
    return {};
  }

  // Up to buffer's size; 0: the end.
  Result<size_t> read(char* buffer, size_t size) {
    if (ended_) return 0;
    const la_ssize_t got = archive_read_data(handle_.get(), buffer, size);
    if (got < 0) return failure();
    ended_ = got == 0;
    const auto count = static_cast<size_t>(got);
    produced_ += count;
    diff_.update(std::string_view(buffer, count));
    if (produced_ > limits_.bytes_max) {
      return fail(Code::kLimit, "the layer is over {} bytes when unpacked", limits_.bytes_max);
    }
    if (produced_ > limits_.ratio_free_bytes && produced_ / limits_.ratio_max > consumed_) {
      return fail(Code::kLimit, "the layer grows more than {} times when unpacked",
                  limits_.ratio_max);
    }
    return count;
  }

  // Reads to the end of the source, so that the digests cover everything.
  Result<void> drain() {
    std::vector<char> buffer(kPieceBytes);
    for (;;) {
      HOB_TRY(const size_t got, read(buffer.data(), buffer.size()));
      if (got == 0) break;
    }
    for (;;) {
      HOB_TRY(const std::string_view piece, next_piece());
      if (piece.empty()) return {};
    }
  }

  uint64_t produced() const { return produced_; }
  std::string diff_id() { return to_digest(diff_.finish()); }
  std::string digest() { return to_digest(compressed_.finish()); }

 private:
  Result<std::string_view> next_piece() {
    HOB_TRY(const std::string_view piece, source_.read());
    consumed_ += piece.size();
    compressed_.update(piece);
    return piece;
  }

  static la_ssize_t on_read(archive* handle, void* self, const void** buffer) {
    auto& me = *static_cast<Decompressor*>(self);
    Result<std::string_view> piece = me.next_piece();
    if (!piece) {
      me.source_error_ = piece.error();
      archive_set_error(handle, EIO, "the source failed");
      return -1;
    }
    *buffer = piece->data();
    return static_cast<la_ssize_t>(piece->size());
  }

  std::unexpected<Error> failure() {
    if (source_error_) return fail(*source_error_);
    return fail(Code::kCorrupt, "the layer cannot be unpacked: {}",
                shown(text_of(archive_error_string(handle_.get()))));
  }

  ByteSource& source_;
  const UnpackLimits& limits_;
  Archive handle_;
  Sha256Hasher diff_;
  Sha256Hasher compressed_;
  uint64_t consumed_ = 0;
  uint64_t produced_ = 0;
  bool ended_ = false;
  std::optional<Error> source_error_;
};

// The second: tar. What it takes between two pieces of data is bounded, since it keeps headers and
// sparse maps in memory.
class TarReader {
 public:
  explicit TarReader(Decompressor& input) : input_(input), buffer_(kPieceBytes) {}

  Result<void> open() {
    handle_.reset(archive_read_new());
    archive_read_support_format_tar(handle_.get());
    archive_read_set_callback_data(handle_.get(), this);
    archive_read_set_read_callback(handle_.get(), &TarReader::on_read);
    if (archive_read_open1(handle_.get()) != ARCHIVE_OK) return failure();
    return {};
  }

  // nullptr: the end.
  Result<archive_entry*> next() {
    archive_entry* entry = nullptr;
    since_data_ = 0;
    const int code = archive_read_next_header(handle_.get(), &entry);
    if (code == ARCHIVE_EOF) return nullptr;
    // A warning is about a name that our locale cannot show: the bytes are right.
    if (code != ARCHIVE_OK && code != ARCHIVE_WARN) return failure();
    return entry;
  }

  struct Piece {
    const char* data = nullptr;
    size_t size = 0;
    int64_t offset = 0;
  };
  // nullopt: the entry's end.
  Result<std::optional<Piece>> data() {
    const void* data = nullptr;
    Piece piece;
    since_data_ = 0;
    const int code = archive_read_data_block(handle_.get(), &data, &piece.size, &piece.offset);
    if (code == ARCHIVE_EOF) return std::nullopt;
    if (code != ARCHIVE_OK && code != ARCHIVE_WARN) return failure();
    piece.data = static_cast<const char*>(data);
    return piece;
  }

 private:
  static la_ssize_t on_read(archive* handle, void* self, const void** buffer) {
    auto& me = *static_cast<TarReader*>(self);
    Result<size_t> got = me.input_.read(me.buffer_.data(), me.buffer_.size());
    if (got && me.since_data_ > kEntryHeaderBytesMax) {
      got = fail(Code::kLimit, "an entry's header is over {} bytes", kEntryHeaderBytesMax);
    }
    if (!got) {
      me.input_error_ = got.error();
      archive_set_error(handle, EIO, "the input failed");
      return -1;
    }
    me.since_data_ += *got;
    *buffer = me.buffer_.data();
    return static_cast<la_ssize_t>(*got);
  }

  std::unexpected<Error> failure() {
    if (input_error_) return fail(*input_error_);
    return fail(Code::kCorrupt, "the layer is no sound tar archive: {}",
                shown(text_of(archive_error_string(handle_.get()))));
  }

  Decompressor& input_;
  std::vector<char> buffer_;
  Archive handle_;
  size_t since_data_ = 0;
  std::optional<Error> input_error_;
};

bool is_kept_attribute(std::string_view name) {
  if (name.starts_with("user.")) return !name.starts_with("user.overlay.");
  return name == "security.capability" || name == "system.posix_acl_access" ||
         name == "system.posix_acl_default";
}

Result<EntryMetadata> metadata_of(archive_entry* entry) {
  EntryMetadata metadata;
  const la_int64_t owner = archive_entry_uid(entry);
  const la_int64_t group = archive_entry_gid(entry);
  constexpr la_int64_t id_max = 0xFFFFFFFELL;  // the one above means "none"
  if (owner < 0 || owner > id_max || group < 0 || group > id_max)
    return fail(Code::kCorrupt, "its owner is no id");
  metadata.owner = static_cast<uid_t>(owner);
  metadata.group = static_cast<gid_t>(group);
  metadata.mode = archive_entry_perm(entry) & 07777;
  metadata.modified = {.tv_sec = archive_entry_mtime(entry),
                       .tv_nsec = std::clamp(archive_entry_mtime_nsec(entry), 0L, 999'999'999L)};
  if (static_cast<size_t>(archive_entry_xattr_count(entry)) > kEntryAttributesMax) {
    return fail(Code::kLimit, "it has over {} attributes", kEntryAttributesMax);
  }
  archive_entry_xattr_reset(entry);
  const char* name = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
    if (name == nullptr || !is_kept_attribute(name)) continue;
    metadata.attributes.emplace_back(name, std::string(static_cast<const char*>(value), size));
  }
  return metadata;
}

// Puts the entries into a tree, or with none only looks whether they could be.
class Unpacker {
 public:
  Unpacker(TarReader& tar, LayerTree* tree, const UnpackLimits& limits)
      : tar_(tar), tree_(tree), limits_(limits) {}

  Result<uint64_t> run() {
    for (;;) {
      HOB_TRY(archive_entry * entry, tar_.next());
      if (entry == nullptr) break;
      if (++entries_ > limits_.entries_max) {
        return fail(Code::kLimit, "the layer has over {} entries", limits_.entries_max);
      }
      const std::string name(text_of(archive_entry_pathname(entry)));
      HOB_CHECK(context(take(entry, name), "the layer's entry '{}'", shown(name)));
    }
    if (tree_ != nullptr) HOB_CHECK(tree_->finish());
    return entries_;
  }

 private:
  Result<void> take(archive_entry* entry, const std::string& name) {
    if (name.empty()) return fail(Code::kCorrupt, "it has no name");
    HOB_TRY(std::vector<std::string> path, split_entry_path(name));
    if (!path.empty() && std::string_view(path.back()).starts_with(kWhiteoutPrefix)) {
      HOB_CHECK(skip_data());
      return take_mark(std::move(path));
    }
    HOB_TRY(const EntryMetadata metadata, metadata_of(entry));
    if (const char* target = archive_entry_hardlink(entry); target != nullptr) {
      HOB_TRY(const std::vector<std::string> pieces,
              context(split_entry_path(target), "its link '{}'", shown(target)));
      HOB_CHECK(skip_data());
      return tree_ == nullptr ? Result<void>() : tree_->hard_link(path, pieces);
    }
    const mode_t type = archive_entry_filetype(entry);
    if (type == S_IFCHR || type == S_IFBLK)
      return fail(Code::kCorrupt, "it is a device, which an image may not bring");
    if (type == S_IFREG) return take_file(entry, path, metadata);
    const std::string link(text_of(archive_entry_symlink(entry)));
    HOB_CHECK(skip_data());
    if (type == S_IFLNK && (link.empty() || link.size() > kEntryNameBytesMax)) {
      return fail(Code::kCorrupt, "it links to nothing, or to a name over {} bytes",
                  kEntryNameBytesMax);
    }
    if (type != S_IFDIR && type != S_IFLNK && type != S_IFIFO)
      return fail(Code::kCorrupt, "it is of an unknown kind");
    if (tree_ == nullptr) return {};
    if (type == S_IFDIR) return tree_->directory(path, metadata);
    if (type == S_IFLNK) return tree_->symbolic_link(path, link, metadata);
    return tree_->fifo(path, metadata);
  }

  Result<void> take_mark(std::vector<std::string> path) {
    const std::string mark = path.back();
    if (mark == kOpaqueName) {
      path.pop_back();
      return tree_ == nullptr ? Result<void>() : tree_->opaque(path);
    }
    if (mark.starts_with(kAufsPrefix)) return {};
    path.back() = mark.substr(kWhiteoutPrefix.size());
    if (path.back().empty() || path.back() == "." || path.back() == "..") {
      return fail(Code::kCorrupt, "it is a whiteout of nothing");
    }
    return tree_ == nullptr ? Result<void>() : tree_->whiteout(path);
  }

  Result<void> take_file(archive_entry* entry, const std::vector<std::string>& path,
                         const EntryMetadata& metadata) {
    const la_int64_t size = archive_entry_size(entry);
    if (size < 0 || static_cast<uint64_t>(size) > limits_.bytes_max) {
      return fail(Code::kLimit, "a file of {} bytes, at most {}", size, limits_.bytes_max);
    }
    Fd file;
    if (tree_ != nullptr) {
      HOB_TRY(file, tree_->file(path));
    }
    int64_t length = 0;
    for (;;) {
      HOB_TRY(const std::optional<TarReader::Piece> piece, tar_.data());
      if (!piece) break;
      if (piece->offset < 0 || piece->offset > size ||
          piece->size > static_cast<uint64_t>(size - piece->offset)) {
        return fail(Code::kCorrupt, "its data goes beyond its size");
      }
      length = std::max(length, piece->offset + static_cast<int64_t>(piece->size));
      if (file) HOB_CHECK(write_at(file, *piece));
    }
    if (!file) return {};
    if (length < size && ::ftruncate(file.get(), size) != 0)
      return fail_errno(errno, "growing a file");  // a last hole
    return tree_->finish_file(file, metadata);
  }

  static Result<void> write_at(const Fd& file, TarReader::Piece piece) {
    while (piece.size > 0) {
      const ssize_t wrote = ::pwrite(file.get(), piece.data, piece.size, piece.offset);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return fail_errno(errno, "writing a file");
      piece.data += wrote;
      piece.size -= static_cast<size_t>(wrote);
      piece.offset += wrote;
    }
    return {};
  }

  Result<void> skip_data() {
    for (;;) {
      HOB_TRY(const std::optional<TarReader::Piece> piece, tar_.data());
      if (!piece) return {};
    }
  }

  TarReader& tar_;
  LayerTree* tree_;
  const UnpackLimits& limits_;
  uint64_t entries_ = 0;
};

Result<UnpackedLayer> run(ByteSource& source, LayerTree* tree, const UnpackLimits& limits) {
  Decompressor input(source, limits);
  HOB_CHECK(input.open());
  TarReader tar(input);
  HOB_CHECK(tar.open());
  Unpacker unpacker(tar, tree, limits);
  UnpackedLayer unpacked;
  HOB_TRY(unpacked.entries, unpacker.run());
  HOB_CHECK(input.drain());
  unpacked.bytes = input.produced();
  unpacked.diff_id = input.diff_id();
  unpacked.digest = input.digest();
  return unpacked;
}

}  // namespace

Result<UnpackedLayer> unpack_layer(ByteSource& source, const std::filesystem::path& directory,
                                   const UnpackLimits& limits) {
  HOB_TRY(LayerTree tree, LayerTree::open(directory));
  return run(source, &tree, limits);
}

Result<UnpackedLayer> inspect_layer(ByteSource& source, const UnpackLimits& limits) {
  return run(source, nullptr, limits);
}

}  // namespace hob::image
