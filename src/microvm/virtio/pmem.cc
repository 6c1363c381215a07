#include "microvm/virtio/pmem.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "microvm/snapshot/encoding.h"
#include "microvm/virtio/segments.h"

namespace hob::microvm {
namespace {

// 5.19.6
constexpr uint32_t kFlush = 0;
constexpr uint32_t kDone = 0;
constexpr uint32_t kFailed = 0xffffffff;
// A flush waits for the disk, and the loop with it: few in a turn.
constexpr int kTurnRequests = 1;

}  // namespace

Pmem::Pmem(Fd file, PmemOptions options, LimitTimer timer)
    : file_(std::move(file)),
      options_(std::move(options)),
      timer_(std::move(timer)),
      limit_(options_.limit, timer_.now()) {}

Result<std::unique_ptr<Pmem>> Pmem::create(Fd file, PmemOptions options) {
  HOB_TRY(LimitTimer timer, LimitTimer::create(options.clock));
  std::unique_ptr<Pmem> pmem(new Pmem(std::move(file), std::move(options), std::move(timer)));
  HOB_CHECK(pmem->map());
  return pmem;
}

Pmem::~Pmem() {
  if (host_ != nullptr) munmap(host_, bytes_);
}

Result<void> Pmem::map() {
  struct stat status {};
  if (fstat(file_.get(), &status) < 0) return fail_errno(errno, "Error accessing backing file");
  file_bytes_ = static_cast<uint64_t>(status.st_size);
  if (file_bytes_ == 0) return fail(Code::kInvalid, "Error backing file size is 0");
  if (file_bytes_ > kPmemBytesMax)
    return fail(Code::kInvalid, "the backing file has more than {} bytes", kPmemBytesMax);
  bytes_ = (file_bytes_ + kPmemAlignment - 1) / kPmemAlignment * kPmemAlignment;
  const int access = PROT_READ | (options_.read_only ? 0 : PROT_WRITE);
  // What the file does not fill is memory.
  void* whole = mmap(nullptr, bytes_, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (whole == MAP_FAILED) return fail_errno(errno, "mapping persistent memory");
  host_ = whole;
  if (mmap(whole, file_bytes_, access, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, file_.get(), 0) ==
      MAP_FAILED)
    return fail_errno(errno, "mapping the backing file");
  madvise(whole, bytes_, MADV_DONTDUMP);
  return {};
}

void Pmem::read_configuration(uint64_t offset, std::span<std::byte> data) {
  const std::array<uint64_t, 2> configuration = {start_, bytes_};  // 5.19.4
  const auto bytes = std::as_bytes(std::span(configuration));
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

std::vector<VirtioDevice::Source> Pmem::sources() const {
  return {{.fd = timer_.fd(), .events = EPOLLIN}};
}

VirtioDevice::Progress Pmem::host_ready(size_t) {
  ++counts_.timer_events;
  timer_.fired();
  return notified(0);
}

VirtioDevice::Progress Pmem::notified(size_t) {
  Queue& queue = active_->queues[0];
  if (!queue.ready) return Progress::kDone;
  return take_turn(
      *active_, queue, chain_, {.requests = kTurnRequests, .bytes = kQueueSizeMax},
      [&] {
        const bool held = timer_.holds_back(limit_);
        if (held) ++counts_.throttled;
        return !held;
      },
      [&](const Chain& chain) -> std::optional<uint32_t> { return serve(chain); });
}

uint32_t Pmem::serve(const Chain& chain) {
  uint32_t request = 0;
  const bool whole =
      copy_in(active_->memory, chain.readable, 0, std::as_writable_bytes(std::span(&request, 1)));
  if (!whole || chain.writable_bytes < sizeof(uint32_t)) {
    ++counts_.failures;
    return 0;
  }
  // All that the guest has written through the mapping is the file's by now, and not the disk's.
  const bool done = request == kFlush && fdatasync(file_.get()) == 0;
  ++(done ? counts_.flushes : counts_.failures);
  if (request == kFlush) limit_.charge(file_bytes_);
  const uint32_t answer = done ? kDone : kFailed;
  copy_out(active_->memory, chain.writable, 0, std::as_bytes(std::span(&answer, 1)));
  return sizeof answer;
}

void Pmem::set_limit(const RateLimiterOptions& limit) {
  limit_.update(limit, timer_.now());
  timer_.wake();
}

Result<std::string> Pmem::save() {
  return encode(PmemState{.bytes = bytes_, .limit = limit_.state()});
}

Result<void> Pmem::restore(std::string_view state) {
  HOB_TRY(const PmemState saved, decode<PmemState>(state));
  if (saved.bytes != bytes_)
    return fail(Code::kInvalid, "the file of persistent memory {} has another size than it had",
                options_.id);
  limit_.restore(saved.limit, timer_.now());
  return {};
}

}  // namespace hob::microvm
