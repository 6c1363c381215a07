// A webhook's delivery, as anybody may send it: without the secret nothing is taken, and what a
// right one speaks of are branches that git would take.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "git/push_hook.h"
#include "git/webhook.h"

using namespace hob::git;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  // Lines "Name: value" up to an empty one are headers, the rest the body.
  hob::http::Headers headers;
  size_t at = 0;
  for (int count = 0; count < 32; ++count) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos || end == at) break;
    const std::string line = text.substr(at, end - at);
    const size_t colon = line.find(':');
    if (colon != std::string::npos) headers.add(line.substr(0, colon), line.substr(colon + 1));
    at = end + 1;
  }
  const std::string body = text.substr(std::min(text.size(), at));
  const hob::Instant now{hob::Duration(1'795'430'000'000)};
  const std::vector<hob::Secret<std::string>> secrets = {
      hob::Secret<std::string>("a secret that is in no corpus and that no mutation finds")};
  HOB_ASSERT(!verify_delivery(headers, body, secrets, now));
  for (const char* event :
       {"push", "delete", "Push Hook", "repo:push", "repo:refs_changed", "ping"}) {
    const auto hint = read_delivery({.event = event}, body);
    if (!hint) continue;
    HOB_ASSERT(hint->branches.size() <= kHintedBranchesMax);
    for (const HintedBranch& branch : hint->branches)
      HOB_ASSERT(is_kept_ref("refs/heads/" + branch.name));
  }
  return 0;
}
