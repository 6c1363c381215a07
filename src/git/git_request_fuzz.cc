// What a git client sends, its hook writes and git answers: any bytes give an answer, and what is
// taken is harmless as a path, as a ref and in a terminal.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "git/cgi_answer.h"
#include "git/deploy_order.h"
#include "git/limits.h"
#include "git/push_decision.h"
#include "git/push_hook.h"
#include "git/remote_path.h"

using namespace hob::git;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const char* method : {"GET", "POST"}) {
    for (const char* query : {"", "service=git-upload-pack", "service=git-receive-pack"}) {
      const auto path = parse_remote_path(method, text, query);
      if (!path) continue;
      HOB_ASSERT(is_service_name(path->service));
      HOB_ASSERT(path->service.find_first_of("/.\\ \n") == std::string::npos);
    }
  }
  if (const auto question = parse_question(text)) {
    HOB_ASSERT(question->updates.size() <= kUpdatesMax);
    std::string again = question->quarantine + "\n";
    for (const RefUpdate& update : question->updates) {
      const auto id = [](const std::string& commit) {
        return commit.empty() ? std::string(40, '0') : commit;
      };
      again += id(update.previous) + " " + id(update.commit) + " " + update.name + "\n";
    }
    HOB_ASSERT(again + "\n" == text);
    PushedService service{.exists = true, .branch = "main"};
    for (const bool exists : {true, false}) {
      service.exists = exists;
      const PushDecision decision = decide_push({.service = service, .updates = question->updates});
      HOB_ASSERT(decision.deploys.empty() || !decision.commit.empty());
      HOB_ASSERT(decision.refused.empty() || decision.deploys.empty());
    }
  }
  if (is_kept_ref(text)) {
    HOB_ASSERT(text.find("..") == std::string::npos);
    HOB_ASSERT(text.find("/-") == std::string::npos);
    HOB_ASSERT(text.starts_with("refs/heads/") || text.starts_with("refs/tags/"));
  }
  if (const auto order = decode_deploy_order(text)) {
    HOB_ASSERT(is_service_name(order->service));
    HOB_ASSERT(is_object_id(order->commit));
    HOB_ASSERT(decode_deploy_order(encode(*order)).has_value());
  }
  const std::string line = say_line(text);
  HOB_ASSERT(line.find('\n') == line.size() - 1);
  HOB_ASSERT(line.find('\x1b') == std::string::npos);
  if (const auto head = parse_cgi_head(text); head && *head) HOB_ASSERT((*head)->bytes <= size);
  return 0;
}
