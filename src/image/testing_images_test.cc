#include "image/testing_images.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/core.h>

#include <cstring>
#include <fstream>

#include "image/content_digest.h"

namespace hob::image::testing {

namespace {

std::string header_of(const TarEntry& entry) {
  std::string block(512, '\0');
  const auto put = [&](size_t at, size_t size, const std::string& text) {
    std::memcpy(block.data() + at, text.data(), std::min(size, text.size()));
  };
  put(0, 100, entry.name);
  put(100, 8, fmt::format("{:07o}", entry.mode));
  put(108, 8, fmt::format("{:07o}", entry.owner));
  put(116, 8, fmt::format("{:07o}", entry.group));
  put(124, 12, fmt::format("{:011o}", entry.data.size()));
  put(136, 12, fmt::format("{:011o}", entry.modified));
  put(148, 8, "        ");
  block[156] = entry.type;
  put(157, 100, entry.link);
  put(257, 8, std::string("ustar\00000", 8));
  put(329, 8, "0000001");
  put(337, 8, "0000003");
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  put(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  return block;
}

std::string padded(std::string data) {
  data.resize((data.size() + 511) / 512 * 512, '\0');
  return data;
}

std::string pax_record(const std::string& name, const std::string& value) {
  const size_t rest = name.size() + value.size() + 3;  // ' ', '=', '\n'
  size_t size = rest + 1;
  while (std::to_string(size).size() + rest != size) size = std::to_string(size).size() + rest;
  return fmt::format("{} {}={}\n", size, name, value);
}

std::string packed_with(int (*filter)(archive*), std::string_view bytes) {
  std::string out(bytes.size() + bytes.size() / 8 + 4096, '\0');
  archive* writer = archive_write_new();
  archive_write_set_format_raw(writer);
  filter(writer);
  archive_write_set_bytes_per_block(writer, 1);
  size_t used = 0;
  archive_write_open_memory(writer, out.data(), out.size(), &used);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_write_header(writer, entry);
  archive_write_data(writer, bytes.data(), bytes.size());
  archive_entry_free(entry);
  archive_write_close(writer);
  archive_write_free(writer);
  out.resize(used);
  return out;
}

}  // namespace

std::string tar(const std::vector<TarEntry>& entries) {
  std::string bytes;
  for (const TarEntry& entry : entries) {
    if (!entry.pax.empty()) {
      TarEntry extended{.name = "pax", .type = 'x'};
      for (const auto& [name, value] : entry.pax) extended.data += pax_record(name, value);
      bytes += header_of(extended) + padded(extended.data);
    }
    bytes += header_of(entry) + padded(entry.data);
  }
  return bytes + std::string(1024, '\0');
}

std::string gzip(std::string_view bytes) {
  return packed_with(&archive_write_add_filter_gzip, bytes);
}
std::string zstd(std::string_view bytes) {
  return packed_with(&archive_write_add_filter_zstd, bytes);
}

Result<std::string_view> StringSource::read() {
  const std::string_view piece = std::string_view(bytes_).substr(at_, piece_);
  at_ += piece.size();
  return piece;
}

TestImage make_image(const std::vector<std::string>& layers) {
  TestImage image;
  std::string diff_ids;
  std::string descriptors;
  for (const std::string& layer : layers) {
    const std::string packed = gzip(layer);
    diff_ids += fmt::format("{}\"{}\"", diff_ids.empty() ? "" : ",", digest_of(layer));
    descriptors += fmt::format(
        R"({}{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{}}})",
        descriptors.empty() ? "" : ",", digest_of(packed), packed.size());
    image.layers.push_back(packed);
  }
  image.config = fmt::format(
      R"({{"architecture":"amd64","os":"linux","config":{{"Entrypoint":["/hello"],"Env":["A=b"],"User":"7",)"
      R"("ExposedPorts":{{"8080/tcp":{{}}}},"WorkingDir":"/w"}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}})",
      diff_ids);
  image.manifest = fmt::format(
      R"({{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":)"
      R"("application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}})",
      digest_of(image.config), image.config.size(), descriptors);
  return image;
}

void write_layout(const TestImage& image, const std::filesystem::path& directory,
                  const std::string& tag) {
  const std::filesystem::path blobs = directory / "blobs" / "sha256";
  std::filesystem::create_directories(blobs);
  const auto write = [](const std::filesystem::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
  };
  std::vector<std::string> all = image.layers;
  all.push_back(image.config);
  all.push_back(image.manifest);
  for (const std::string& blob : all) write(blobs / digest_hex(digest_of(blob)), blob);
  write(directory / "oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  write(
      directory / "index.json",
      fmt::format(
          R"({{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",)"
          R"("digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"{}"}}}}]}})",
          digest_of(image.manifest), image.manifest.size(), tag));
}

}  // namespace hob::image::testing
