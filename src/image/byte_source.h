// Bytes that are asked for, on a thread that may block: a download, a file, a string in a test.
#pragma once

#include <string_view>

#include "base/result.h"

namespace hob::image {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next piece, valid until the next call; empty at the end.
  virtual Result<std::string_view> read() = 0;
};

}  // namespace hob::image
