#include "cli/tar_index.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>

namespace hob::cli {
namespace {

constexpr size_t kBlock = 512;

Result<std::string> read_at(const Fd& file, uint64_t offset, size_t size) {
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t got =
        pread(file.get(), bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading the archive");
    if (got == 0) return fail(Code::kInvalid, "the archive is cut off");
    done += static_cast<size_t>(got);
  }
  return bytes;
}

std::string text_field(std::string_view block, size_t at, size_t size) {
  const std::string_view field = block.substr(at, size);
  return std::string(field.substr(0, field.find('\0')));
}

bool checksum_fits(std::string_view block) {
  uint64_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    sum += i >= 148 && i < 156 ? static_cast<unsigned char>(' ')
                               : static_cast<unsigned char>(block[i]);
  }
  const Result<uint64_t> said = tar_number(block.substr(148, 8));
  return said && *said == sum;
}

std::string plain_name(std::string name) {
  while (name.starts_with("./")) name.erase(0, 2);
  return name;
}

// What pax headers and GNU long names say of the next file.
struct Overrides {
  std::string name{};
  std::string link{};
  std::string size{};
};

// Records "LENGTH KEY=VALUE\n".
Result<void> read_pax(std::string_view text, Overrides& overrides) {
  while (!text.empty()) {
    size_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    const size_t digits = static_cast<size_t>(end - text.data());
    if (error != std::errc() || length > text.size() || length < digits + 3 ||
        text[length - 1] != '\n') {
      return fail(Code::kInvalid, "the archive has a broken pax header");
    }
    const std::string_view record = text.substr(digits + 1, length - digits - 2);
    text.remove_prefix(length);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = record.substr(0, equals);
    const std::string value(record.substr(equals + 1));
    if (key == "path")
      overrides.name = value;
    else if (key == "linkpath")
      overrides.link = value;
    else if (key == "size")
      overrides.size = value;
  }
  return {};
}

}  // namespace

Result<uint64_t> tar_number(std::string_view field) {
  if (field.empty()) return fail(Code::kInvalid, "a number is missing");
  if ((static_cast<unsigned char>(field[0]) & 0x80) != 0) {
    uint64_t value = static_cast<unsigned char>(field[0]) & 0x7f;
    for (const char c : field.substr(1)) {
      if (value >> 55 != 0) return fail(Code::kInvalid, "a number is too large");
      value = value << 8 | static_cast<unsigned char>(c);
    }
    return value;
  }
  const size_t start = field.find_first_not_of(' ');
  if (start == std::string_view::npos) return uint64_t{0};
  field.remove_prefix(start);
  uint64_t value = 0;
  for (const char c : field) {
    if (c == '\0' || c == ' ') break;
    if (c < '0' || c > '7') return fail(Code::kInvalid, "a number is not octal");
    value = value << 3 | static_cast<uint64_t>(c - '0');
  }
  return value;
}

Result<std::map<std::string, FileRange>> index_tar(const Fd& file) {
  struct stat status{};
  if (fstat(file.get(), &status) != 0) return fail_errno(errno, "reading the archive");
  const auto bytes = static_cast<uint64_t>(status.st_size);
  std::map<std::string, FileRange> files;
  Overrides overrides;
  uint64_t at = 0;
  for (size_t entries = 0; bytes - at >= kBlock; ++entries) {
    if (entries > kTarEntriesMax)
      return fail(Code::kLimit, "the archive has over {} files", kTarEntriesMax);
    HOB_TRY(const std::string block, read_at(file, at, kBlock));
    if (block.find_first_not_of('\0') == std::string::npos) break;
    if (!checksum_fits(block))
      return fail(Code::kInvalid, "this is no tar archive (or it is compressed)");
    HOB_TRY(uint64_t size, tar_number(std::string_view(block).substr(124, 12)));
    if (!overrides.size.empty()) {
      std::from_chars(overrides.size.data(), overrides.size.data() + overrides.size.size(), size);
    }
    const uint64_t data = at + kBlock;
    if (size > bytes - data) return fail(Code::kInvalid, "the archive is cut off");
    const char type = block[156];
    const uint64_t padded = size % kBlock == 0 ? size : size + (kBlock - size % kBlock);
    if (padded > bytes - data) return fail(Code::kInvalid, "the archive is cut off");
    at = data + padded;
    if (type == 'x' || type == 'g' || type == 'L' || type == 'K') {
      if (size > kTarNameBytesMax)
        return fail(Code::kLimit, "the archive has a name of {} bytes", size);
      HOB_TRY(std::string text, read_at(file, data, size));
      if (type == 'x') HOB_CHECK(read_pax(text, overrides));
      if (type == 'L') overrides.name = text.substr(0, text.find('\0'));
      if (type == 'K') overrides.link = text.substr(0, text.find('\0'));
      continue;
    }
    std::string name = text_field(block, 0, 100);
    const std::string prefix = text_field(block, 345, 155);
    if (block.substr(257, 5) == "ustar" && block[262] == '\0' && !prefix.empty())
      name = prefix + "/" + name;
    if (!overrides.name.empty()) name = overrides.name;
    std::string link = overrides.link.empty() ? text_field(block, 157, 100) : overrides.link;
    overrides = {};
    name = plain_name(std::move(name));
    if (type == '0' || type == '\0') {
      files[name] = {data, size};
    } else if (type == '1' || type == '2') {
      // "../ID/layer.tar" beside "ID2/layer.tar": resolved against the link's directory, within the
      // archive.
      const std::filesystem::path base =
          type == '2' ? std::filesystem::path(name).parent_path() : "";
      const auto target = files.find((base / link).lexically_normal().string());
      if (target != files.end()) files[name] = FileRange(target->second);
    }
  }
  return files;
}

}  // namespace hob::cli
