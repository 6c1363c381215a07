// An image archive from somewhere: indexing it must end, within its bounds.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "cli/tar_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const hob::Fd file(memfd_create("tar", MFD_CLOEXEC));
  if (!file || write(file.get(), data, size) != static_cast<ssize_t>(size)) return 0;
  const auto index = hob::cli::index_tar(file);
  if (!index) return 0;
  for (const auto& [name, range] : *index) {
    if (range.offset > size || range.size > size - range.offset) abort();
  }
  return 0;
}
