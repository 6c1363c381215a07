// Pages of lists: tokens that mean nothing to clients and are checked when they come back. Pure;
// any thread.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aws/apprunner/errors.h"
#include "base/digest.h"
#include "base/result.h"

namespace hob::runner {

template <class T>
struct Page {
  std::vector<T> items{};
  std::optional<std::string> next_token{};
};

// The part of `items` (key and item, in any order; shown by ascending key) that comes after
// `token`, `limit` of them; nullopt: all. `list` names the list, so that a token of another one is
// refused (InvalidRequestException). A token stays good while items come and go.
template <class T>
Result<Page<T>> page_of(std::vector<std::pair<std::string, T>> items,
                        const std::optional<std::string>& token, std::optional<int> limit,
                        const std::string& list) {
  const std::string prefix = list + "\n";
  std::string after;
  if (token && !token->empty()) {
    const auto text = unbase64(*token);
    if (!text || !text->starts_with(prefix))
      return aws::apprunner::invalid_request_exception("The NextToken is invalid.");
    after = text->substr(prefix.size());
  }
  std::ranges::sort(items, {}, [](const auto& item) -> const std::string& { return item.first; });
  Page<T> page;
  const std::string* last = nullptr;
  for (auto& [key, item] : items) {
    if (key <= after) continue;
    if (limit && page.items.size() == static_cast<size_t>(*limit)) {
      page.next_token = base64(prefix + *last);
      break;
    }
    page.items.push_back(std::move(item));
    last = &key;
  }
  return page;
}

}  // namespace hob::runner
