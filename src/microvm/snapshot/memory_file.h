// A snapshot's other file: the guest's memory as it is, its regions one after the other, holes
// where it is zero (full) or where it was not written (diff). A diff laid over the full one that it
// was taken after makes the later full one.
#pragma once

#include <string>

#include "base/file.h"
#include "base/result.h"
#include "microvm/memory/guest_memory.h"

namespace hob::microvm {

enum class SnapshotKind { kFull, kDiff };

// A diff holds the pages in memory.dirty(); without tracking, all that may have been written: those
// that are not the mapped file's any more as far as /proc tells, or else the whole. Written in
// place, a diff into what the file holds already; synced when it returns. memory.dirty() stays: it
// is the caller's to clear once the whole snapshot is there. kInvalid: the path is no regular
// file's, or a diff's file has another size; kUnavailable: the disk.
Result<void> write_memory(GuestMemory& memory, const std::string& path, SnapshotKind kind);

// Memory whose pages are the file's until they are written, each read when it is first touched.
// Nothing may change the file while the guest runs. kInvalid: no regular file of that size.
Result<GuestMemory> map_memory(const std::string& path, uint64_t bytes, bool track_dirty);

// Memory whose pages another process fills in when they are first touched.
struct HandledMemory {
  GuestMemory memory;
  Fd faults{};  // a userfaultfd, to be kept open while the memory lives
  Fd handler{};
};
// Connects to the handler's unix socket and sends it one message, as Firecracker does: a JSON list
// of `{"base_host_virt_addr","size","offset","page_size","page_size_kib"}`, the last two in bytes,
// with the userfaultfd. The handler answers faults, and events of removed pages.
Result<HandledMemory> handled_memory(const std::string& socket_path, uint64_t bytes,
                                     GuestMemory::Pages pages, bool track_dirty);

}  // namespace hob::microvm
