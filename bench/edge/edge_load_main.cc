// The other two ends of a measurement, so light that the proxy between them is what is measured,
// and the lightest there can be between them.
//
//   edge_load target PORT
//     Answers GET /N with N bytes, N up to 1 MiB, over kept-alive connections, until it is killed;
//     other methods never.
//   edge_load copy PORT TARGET_PORT
//     The least that a middle can do: sends on what it receives, a connection to the target for
//     each of its own, and looks at nothing. What a proxy costs above it is the proxy's doing, the
//     rest is the kernel's. For small answers.
//   edge_load load PORT HOST PATH CONNECTIONS SECONDS [tls|anew]
//     Asks again as soon as it is answered, on each of the connections; `anew`: on a new connection
//     each time. Prints one line: requests, and the microseconds they took. Fails if one does.
//   edge_load rate PORT HOST PATH RATE CONNECTIONS SECONDS
//     Asks at a constant rate whatever the answers do: a request's latency counts from when it was
//     due, so that a stall costs all who came in it (no coordinated omission). Prints one line:
//     requests, failed, p50, p90, p99 and p99.9 in microseconds.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "edge_load.h"

using namespace edge_load;

namespace {

int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// ---- rate ----

enum Tag : uint64_t { kReceived = 0, kSent = 1 };

struct alignas(8) Asking {
  int fd = -1;
  int64_t due_ns = 0;
  size_t left = 0;  // of the answer; 0: its head has not come
  std::string input{};
  char room[64 * 1024];
};

// `got`: of a receive. True: the answer is complete; failed: the connection is of no use any more.
bool read_answer(Asking& asking, int got, bool& failed) {
  failed = got <= 0;
  if (failed) return false;
  size_t count = static_cast<size_t>(got);
  if (asking.left == 0) {
    asking.input.append(asking.room, count);
    const Sizes sizes = sizes_of(asking.input);
    failed = sizes.wrong;
    if (failed || sizes.head == 0) return false;
    asking.left = sizes.body;
    count = asking.input.size() - sizes.head;
    asking.input.clear();
  }
  failed = count > asking.left;
  asking.left -= std::min(count, asking.left);
  return asking.left == 0;
}

int run_rate(char** argv) {
  const sockaddr_in address = loopback(argv[0]);
  const std::string request =
      std::string("GET ") + argv[2] + " HTTP/1.1\r\nHost: " + argv[1] + "\r\n\r\n";
  const double rate = std::atof(argv[3]);
  const int64_t interval_ns = static_cast<int64_t>(1e9 / rate);
  std::vector<Asking> connections(static_cast<size_t>(std::atoi(argv[4])));
  Ring ring;
  std::vector<Asking*> free;
  for (Asking& asking : connections) {
    asking.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(asking.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      die("edge_load: connecting");
    send_at_once(asking.fd);
    free.push_back(&asking);
  }
  // Else a sleep ends up to 50 us late.
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  const int64_t begin = now_ns();
  const int64_t end = begin + static_cast<int64_t>(std::atof(argv[5]) * 1e9);
  int64_t due = begin;
  std::vector<int64_t> latencies;
  latencies.reserve(static_cast<size_t>(rate * std::atof(argv[5])) + 1'000);
  std::deque<int64_t> waiting;  // due, and no connection is free
  size_t failed = 0;
  size_t running = 0;
  const auto receive = [&](Asking& asking) {
    io_uring_sqe* entry = ring.next(&asking, kReceived);
    io_uring_prep_recv(entry, asking.fd, asking.room, sizeof asking.room, 0);
    entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
    ring.tell(entry);
  };
  const auto ask = [&](int64_t since) {
    Asking& asking = *free.back();
    free.pop_back();
    asking.due_ns = since;
    ++running;
    io_uring_sqe* entry = ring.next(&asking, kSent);
    io_uring_prep_send(entry, asking.fd, request.data(), request.size(), MSG_NOSIGNAL);
    ring.tell_failure(entry);
    receive(asking);
  };
  for (;;) {
    int64_t now = now_ns();
    for (; due <= now && due < end; due += interval_ns) waiting.push_back(due);
    while (!waiting.empty() && !free.empty()) {
      ask(waiting.front());
      waiting.pop_front();
    }
    if (due >= end && running == 0 && waiting.empty()) break;
    if (now > end + 5'000'000'000) break;
    const int64_t sleep = due < end ? std::max<int64_t>(0, due - now) : 100'000'000;
    ring.turn_until(std::min<int64_t>(sleep, 900'000'000),
                    [&](void* what, uint64_t tag, int got, unsigned) {
                      Asking& asking = *static_cast<Asking*>(what);
                      bool broken = tag == kSent;  // only failures are told
                      const bool whole = !broken && read_answer(asking, got, broken);
                      if (broken) {
                        ++failed;
                        --running;
                      } else if (whole) {
                        latencies.push_back(now_ns() - asking.due_ns);
                        --running;
                        free.push_back(&asking);
                      } else {
                        receive(asking);
                      }
                    });
  }
  failed += running + waiting.size();
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&](double share) {
    if (latencies.empty()) return 0.0;
    const auto last = static_cast<double>(latencies.size() - 1);
    return static_cast<double>(latencies[static_cast<size_t>(share * last)]) / 1e3;
  };
  std::printf("%zu %zu %.1f %.1f %.1f %.1f\n", latencies.size(), failed, at(0.5), at(0.9), at(0.99),
              at(0.999));
  return 0;
}

Asked asked(int argc, char** argv) {
  Asked asked{.port = argv[2],
              .connections = static_cast<size_t>(std::atoi(argv[5])),
              .seconds = std::atof(argv[6])};
  for (int i = 7; i < argc; ++i) {
    const std::string_view word = argv[i];
    asked.tls |= word == "tls";
    asked.anew |= word == "anew";
  }
  asked.request = std::string("GET ") + argv[4] + " HTTP/1.1\r\nHost: " + argv[3] +
                  (asked.anew ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n");
  return asked;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "target" && argc == 3) return run_target(argv[2]);
  if (mode == "copy" && argc == 4) return run_copy(argv[2], argv[3]);
  if (mode == "load" && argc >= 7) return run_load(asked(argc, argv));
  if (mode == "rate" && argc == 8) return run_rate(argv + 2);
  std::fprintf(stderr,
               "usage: edge_load target PORT | copy PORT TARGET_PORT |"
               " load PORT HOST PATH CONNECTIONS SECONDS [tls|anew] | rate PORT HOST PATH RATE "
               "CONNECTIONS SECONDS\n");
  return 2;
}
