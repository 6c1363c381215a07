#include "network/dns_message.h"

#include "base/assert.h"

namespace hob::network {

namespace {

constexpr size_t kHeaderBytes = 12;
constexpr size_t kLabelBytesMax = 63;
constexpr size_t kQuestionTailBytes = 4;  // type and class

unsigned byte_at(std::string_view message, size_t at) {
  return static_cast<unsigned char>(message[at]);
}
unsigned number_at(std::string_view message, size_t at) {
  return (byte_at(message, at) << 8) | byte_at(message, at + 1);
}

// Where the question that begins after the header ends.
std::optional<size_t> question_end(std::string_view message) {
  if (message.size() < kHeaderBytes || number_at(message, 4) != 1) return std::nullopt;
  size_t at = kHeaderBytes;
  while (at < message.size()) {
    const size_t length = byte_at(message, at);
    if (length > kLabelBytesMax) return std::nullopt;
    at += 1 + length;
    if (at - kHeaderBytes > kDnsNameBytesMax) return std::nullopt;
    if (length > 0) continue;
    if (at > message.size() || message.size() - at < kQuestionTailBytes) return std::nullopt;
    return at + kQuestionTailBytes;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string_view> dns_question(std::string_view query) {
  const auto end = question_end(query);
  if (!end || query.size() > kDnsMessageBytesMax) return std::nullopt;
  const bool is_answer = (byte_at(query, 2) & 0x80) != 0;
  const unsigned operation = (byte_at(query, 2) >> 3) & 0x0f;
  if (is_answer || operation != 0) return std::nullopt;
  return query.substr(0, *end);
}

uint16_t dns_id(std::string_view message) {
  HOB_ASSERT(message.size() >= kHeaderBytes);
  return static_cast<uint16_t>(number_at(message, 0));
}

void set_dns_id(std::string& message, uint16_t id) {
  HOB_ASSERT(message.size() >= kHeaderBytes);
  message[0] = static_cast<char>(id >> 8);
  message[1] = static_cast<char>(id & 0xff);
}

bool answers_dns(std::string_view query, std::string_view answer) {
  const auto asked = question_end(query);
  const auto answered = question_end(answer);
  if (!asked || asked != answered) return false;
  if ((byte_at(answer, 2) & 0x80) == 0 || dns_id(query) != dns_id(answer)) return false;
  return query.substr(kHeaderBytes, *asked - kHeaderBytes) ==
         answer.substr(kHeaderBytes, *asked - kHeaderBytes);
}

std::string dns_servfail(std::string_view query) {
  const auto question = dns_question(query);
  HOB_ASSERT(question.has_value());
  std::string answer(*question);
  const unsigned recursion_desired = byte_at(answer, 2) & 0x01;
  answer[2] = static_cast<char>(0x80 | recursion_desired);
  answer[3] = static_cast<char>(0x80 | 2);  // recursion available; SERVFAIL
  for (size_t at = 6; at < kHeaderBytes; ++at) answer[at] = 0;
  return answer;
}

std::vector<std::string> parse_resolvers(std::string_view text) {
  std::vector<std::string> found;
  while (!text.empty() && found.size() < kResolversMax) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    constexpr std::string_view kWord = "nameserver";
    if (!line.starts_with(kWord)) continue;
    line.remove_prefix(kWord.size());
    const size_t from = line.find_first_not_of(" \t");
    if (from == 0 || from == std::string_view::npos) continue;
    line.remove_prefix(from);
    found.emplace_back(line.substr(0, line.find_first_of(" \t\r#;")));
  }
  return found;
}

}  // namespace hob::network
