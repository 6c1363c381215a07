// ECR's paging: an opaque token that names where the next page begins. Pure.
#pragma once

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "aws/ecr/errors.h"
#include "base/digest.h"

namespace hob::image {

template <class T>
struct Page {
  std::vector<T> items{};
  std::optional<std::string> next_token{};
};

// The page of `all` that `token` asks for. InvalidParameterException: not a token of ours.
template <class T>
Result<Page<T>> page_of(std::vector<T> all, const std::optional<std::string>& token,
                        std::optional<int> max_results, size_t page_default) {
  size_t first = 0;
  if (token) {
    const std::optional<std::string> text = unbase64(*token);
    const bool ours = text && text->starts_with("at ");
    const char* end = ours ? text->data() + text->size() : nullptr;
    if (!ours || std::from_chars(text->data() + 3, end, first).ptr != end) {
      return aws::ecr::invalid_parameter_exception(
          "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid next token'");
    }
  }
  first = std::min(first, all.size());
  const size_t count = max_results ? static_cast<size_t>(*max_results) : page_default;
  const size_t last = std::min(all.size(), first + count);
  Page<T> page;
  page.items.assign(std::make_move_iterator(all.begin() + static_cast<std::ptrdiff_t>(first)),
                    std::make_move_iterator(all.begin() + static_cast<std::ptrdiff_t>(last)));
  if (last < all.size()) page.next_token = base64("at " + std::to_string(last));
  return page;
}

}  // namespace hob::image
