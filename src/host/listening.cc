#include "host/listening.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <string>

namespace hob::host {

namespace {

constexpr std::string_view kListen = "0A";

// The `index`th word of a line.
std::string_view word_of(std::string_view line, int index) {
  for (;;) {
    const size_t from = line.find_first_not_of(' ');
    if (from == std::string_view::npos) return {};
    line.remove_prefix(from);
    const size_t end = std::min(line.find(' '), line.size());
    if (index-- == 0) return line.substr(0, end);
    line.remove_prefix(end);
  }
}

bool is_loopback(std::string_view address) {
  // As the kernel prints it: words in the machine's byte order, so on x86 and ARM 127.0.0.1 is
  // "0100007F".
  if (address.size() == 8) return address.ends_with("7F");
  return address == "00000000000000000000000001000000" ||
         (address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F"));
}

void parse_one(std::string_view text, std::set<int>& reachable, std::set<int>& loopback) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (word_of(line, 3) != kListen) continue;
    const std::string_view local = word_of(line, 1);
    const size_t colon = local.find(':');
    if (colon == std::string_view::npos) continue;
    int port = 0;
    const std::string_view digits = local.substr(colon + 1);
    const auto [rest, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), port, 16);
    if (error != std::errc() || rest != digits.data() + digits.size() || port < 1 || port > 65535)
      continue;
    (is_loopback(local.substr(0, colon)) ? loopback : reachable).insert(port);
  }
}

}  // namespace

ListeningPorts parse_listening(std::string_view tcp, std::string_view tcp6) {
  std::set<int> reachable;
  std::set<int> loopback;
  parse_one(tcp, reachable, loopback);
  parse_one(tcp6, reachable, loopback);
  ListeningPorts ports;
  ports.reachable.assign(reachable.begin(), reachable.end());
  for (const int port : loopback) {
    if (!reachable.contains(port)) ports.loopback_only.push_back(port);
  }
  return ports;
}

}  // namespace hob::host
