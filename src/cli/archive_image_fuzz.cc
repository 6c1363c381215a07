// An image archive from somewhere, read to its manifests: an image whose parts are within the file,
// or a reason.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "base/digest.h"
#include "cli/archive_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const hob::Fd file(memfd_create("image", MFD_CLOEXEC));
  if (!file || write(file.get(), data, size) != static_cast<ssize_t>(size)) return 0;
  const auto image = hob::cli::open_archive_image("/proc/self/fd/" + std::to_string(file.get()));
  if (!image) return 0;
  HOB_ASSERT(image->digest == "sha256:" + hob::hex(hob::sha256(image->manifest)));
  for (const hob::cli::Blob& blob : image->blobs) {
    HOB_ASSERT(blob.size <= size);
    const auto bytes = blob.read(0, size);
    HOB_ASSERT(bytes.has_value() && bytes->size() == blob.size);
  }
  return 0;
}
