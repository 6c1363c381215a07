#include "edge/buffer.h"

namespace hob::edge {

bool BufferPool::grow() {
  if (made_ + kSlab > kBuffersMax) return false;
  auto slab = std::make_unique<Slab>();
  slab->memory.reset(new char[kSlab * kBufferBytes]);
  for (size_t i = kSlab; i-- > 0;) {
    slab->buffers[i] = {.data = slab->memory.get() + i * kBufferBytes,
                        .pool = this,
                        .index = static_cast<uint16_t>(made_ + i)};
    free_.push_back(&slab->buffers[i]);
  }
  slabs_.push_back(std::move(slab));
  made_ += kSlab;
  return true;
}

void Chain::consume(size_t count) {
  HOB_ASSERT(count <= bytes_);
  bytes_ -= count;
  while (count > 0) {
    Slice& first = slices_[first_];
    if (count < first.size()) {
      first.skip(count);
      return;
    }
    count -= first.size();
    first.reset();
    ++first_;
  }
  if (bytes_ == 0) clear();
}

Slice Chain::take_first() {
  HOB_ASSERT(pieces() > 0);
  Slice slice = std::move(slices_[first_]);
  ++first_;
  bytes_ -= slice.size();
  if (first_ == slices_.size()) clear();
  return slice;
}

}  // namespace hob::edge
