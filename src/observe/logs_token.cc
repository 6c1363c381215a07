#include "observe/logs_token.h"

#include <charconv>

#include "base/digest.h"

namespace hob::observe {

namespace {

// Takes digits and the `end` after them off the front of `rest`.
template <class Number>
std::optional<Number> take(std::string_view& rest, char end) {
  Number number{};
  const auto [at, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc{} || at == rest.data() + rest.size() || *at != end) return std::nullopt;
  rest.remove_prefix(static_cast<size_t>(at - rest.data()) + 1);
  return number;
}

}  // namespace

std::string format_token(const PageToken& token) {
  return fmt::format("{}/{}:{}/s", token.direction == ReadDirection::kForward ? 'f' : 'b',
                     token.place.segment, token.place.offset);
}

std::optional<PageToken> parse_page_token(std::string_view text) {
  if (!text.starts_with("f/") && !text.starts_with("b/")) return std::nullopt;
  PageToken token{.direction = text[0] == 'f' ? ReadDirection::kForward : ReadDirection::kBackward};
  text.remove_prefix(2);
  const auto segment = take<uint64_t>(text, ':');
  const auto offset = segment ? take<uint64_t>(text, '/') : std::nullopt;
  if (!offset || text != "s") return std::nullopt;
  token.place = {.segment = *segment, .offset = *offset};
  return token;
}

std::string format_token(const FilterPlace& place) {
  return base64(fmt::format("{}:{}:{}:{}", place.at.time_since_epoch().count(), place.place.segment,
                            place.place.offset, place.stream));
}

std::optional<FilterPlace> parse_filter_token(std::string_view text) {
  const auto plain = unbase64(text);
  if (!plain) return std::nullopt;
  std::string_view rest = *plain;
  const auto at = take<int64_t>(rest, ':');
  const auto segment = at ? take<uint64_t>(rest, ':') : std::nullopt;
  const auto offset = segment ? take<uint64_t>(rest, ':') : std::nullopt;
  if (!offset) return std::nullopt;
  return FilterPlace{.at = Instant(Duration(*at)),
                     .stream = std::string(rest),
                     .place = {.segment = *segment, .offset = *offset}};
}

std::string event_id(const LogEvent& event) {
  // The stream's part is a hash: ids of two streams must differ, their order does not matter.
  const Sha256 hash = sha256(event.stream);
  uint64_t number = 0;
  for (size_t i = 0; i < 7; ++i) number = number << 8 | hash[i];
  return fmt::format("{:017}{:08}{:012}{:019}", event.at.time_since_epoch().count(),
                     event.place.segment % 100'000'000, event.place.offset % 1'000'000'000'000,
                     number);
}

}  // namespace hob::observe
