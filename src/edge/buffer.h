// Bytes on one loop: fixed buffers that are counted, slices of them, and chains of slices waiting
// to be sent.
//
// Nothing here is shared between threads. Received bytes are handed on as slices, without copying;
// a buffer goes back to its pool with its last slice.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "edge/limits.h"

namespace hob::edge {

class BufferPool;

struct Buffer {
  char* data = nullptr;  // kBufferBytes
  BufferPool* pool = nullptr;
  uint32_t refs = 0;
  uint32_t used = 0;  // bytes written from the front: what follows may still be appended to
  uint16_t index = 0;
};

// All of a loop's buffers. They are made as they are needed, kBuffersMax at most, and then kept.
class BufferPool {
 public:
  BufferPool() { free_.reserve(kBuffersMax); }
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // One reference. nullptr: kBuffersMax are in use.
  Buffer* take() {
    if (free_.empty() && !grow()) return nullptr;
    Buffer* buffer = free_.back();
    free_.pop_back();
    buffer->refs = 1;
    buffer->used = 0;
    return buffer;
  }
  void drop(Buffer* buffer) {
    if (--buffer->refs == 0) free_.push_back(buffer);
  }
  Buffer* at(uint16_t index) { return &slabs_[index / kSlab]->buffers[index % kSlab]; }
  size_t in_use() const { return made_ - free_.size(); }
  // Whether a reader may take more: the rest is for heads and pages.
  bool plenty() const { return in_use() + kBuffersReserved < kBuffersMax; }
  // Half are gone: who holds many for one client should hold fewer.
  bool scarce() const { return in_use() > kBuffersMax / 2; }

 private:
  static constexpr size_t kSlab = 64;
  struct Slab {
    Buffer buffers[kSlab]{};
    std::unique_ptr<char[]> memory{};
  };
  bool grow();

  std::vector<std::unique_ptr<Slab>> slabs_;
  std::vector<Buffer*> free_;
  size_t made_ = 0;
};

// A counted piece of a buffer.
class Slice {
 public:
  Slice() = default;
  // Takes over one reference.
  Slice(Buffer* buffer, const char* data, size_t size)
      : buffer_(buffer), data_(data), size_(static_cast<uint32_t>(size)) {}
  Slice(Slice&& other) noexcept
      : buffer_(std::exchange(other.buffer_, nullptr)),
        data_(other.data_),
        size_(std::exchange(other.size_, 0)) {}
  Slice& operator=(Slice&& other) noexcept {
    if (this != &other) {
      reset();
      buffer_ = std::exchange(other.buffer_, nullptr);
      data_ = other.data_;
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  ~Slice() { reset(); }

  void reset() {
    if (buffer_ != nullptr) buffer_->pool->drop(std::exchange(buffer_, nullptr));
    size_ = 0;
  }
  // Another reference to `size` bytes from `offset`.
  Slice part(size_t offset, size_t size) const {
    HOB_ASSERT(offset <= size_ && size <= size_ - offset);
    if (buffer_ != nullptr) ++buffer_->refs;
    return Slice(buffer_, data_ + offset, size);
  }
  Slice share() const { return part(0, size_); }
  void skip(size_t count) {
    HOB_ASSERT(count <= size_);
    data_ += count;
    size_ -= static_cast<uint32_t>(count);
  }
  const char* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {data_, size_}; }
  Buffer* buffer() const { return buffer_; }

 private:
  friend class Chain;
  Buffer* buffer_ = nullptr;
  const char* data_ = nullptr;
  uint32_t size_ = 0;
};

// Bytes in order, as slices. Small pieces are copied together.
class Chain {
 public:
  Chain() = default;
  Chain(Chain&& other) noexcept { swap(other); }
  Chain& operator=(Chain&& other) noexcept {
    Chain taken(std::move(other));
    swap(taken);
    return *this;
  }
  void swap(Chain& other) noexcept {
    slices_.swap(other.slices_);
    std::swap(first_, other.first_);
    std::swap(bytes_, other.bytes_);
    std::swap(appendable_, other.appendable_);
  }

  bool empty() const { return bytes_ == 0; }
  size_t bytes() const { return bytes_; }
  size_t pieces() const { return slices_.size() - first_; }
  const Slice& piece(size_t index) const { return slices_[first_ + index]; }

  // By reference where it is worth it. False: no buffer to copy into; nothing was added.
  bool append(BufferPool& pool, Slice slice) {
    if (slice.size() < kCopyBelow) return append(pool, slice.view());
    bytes_ += slice.size();
    slices_.push_back(std::move(slice));
    appendable_ = false;
    return true;
  }
  // Copies. False: no buffer; a part may have been added.
  bool append(BufferPool& pool, std::string_view text) {
    while (!text.empty()) {
      const std::span<char> room = writable(pool);
      if (room.empty()) return false;
      const size_t count = std::min(room.size(), text.size());
      std::memcpy(room.data(), text.data(), count);
      written(count);
      text.remove_prefix(count);
    }
    return true;
  }
  // Room at the end to write into, at least one byte; empty: no buffer left. written() says how
  // much was used.
  std::span<char> writable(BufferPool& pool) {
    if (pieces() > 0) {
      const Slice& last = slices_.back();
      Buffer* buffer = last.buffer_;
      if (buffer->used < kBufferBytes && last.data_ + last.size_ == buffer->data + buffer->used &&
          appendable_) {
        return {buffer->data + buffer->used, kBufferBytes - buffer->used};
      }
    }
    Buffer* buffer = pool.take();
    if (buffer == nullptr) return {};
    slices_.push_back(Slice(buffer, buffer->data, 0));
    appendable_ = true;
    return {buffer->data, kBufferBytes};
  }
  void written(size_t count) {
    Slice& last = slices_.back();
    last.size_ += static_cast<uint32_t>(count);
    last.buffer_->used += static_cast<uint32_t>(count);
    bytes_ += count;
  }
  // Forgets the first `count` bytes.
  void consume(size_t count);
  // Adds references to all of `other`'s bytes.
  void share(const Chain& other) {
    for (size_t i = 0; i < other.pieces(); ++i) {
      bytes_ += other.piece(i).size();
      slices_.push_back(other.piece(i).share());
      appendable_ = false;
    }
  }
  // Moves all of `other` to the end of this.
  void splice(Chain& other) {
    for (size_t i = other.first_; i < other.slices_.size(); ++i)
      slices_.push_back(std::move(other.slices_[i]));
    bytes_ += other.bytes_;
    appendable_ = false;
    other.clear();
  }
  Slice take_first();
  void clear() {
    slices_.clear();
    first_ = 0;
    bytes_ = 0;
    appendable_ = false;
  }

 private:
  std::vector<Slice> slices_;  // keeps its room when emptied
  size_t first_ = 0;
  size_t bytes_ = 0;
  // Whether the last slice's buffer was taken by this chain and is written by nobody else.
  bool appendable_ = false;
};

}  // namespace hob::edge
