// Targets that speak HTTP/2: those that others wrote.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "edge/test_rig.h"

namespace hob::edge {
namespace {

std::string output_of(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::string text;
  char room[4096];
  for (size_t got = 0; (got = ::fread(room, 1, sizeof room, pipe)) > 0;) text.append(room, got);
  ::pclose(pipe);
  return text;
}

const std::string kPeer = "/usr/bin/python3 " HOB_SOURCE_DIR "/src/edge/testdata/grpc_peer.py ";

// gRPC's server in Python, until it is destroyed: it ends with its input.
class GrpcServer {
 public:
  GrpcServer()
      : folder_(std::filesystem::temp_directory_path() / fmt::format("hob-t-grpc-{}", ::getpid())) {
    std::filesystem::create_directories(folder_);
    input_ = ::popen((kPeer + "serve " + (folder_ / "port").string()).c_str(), "w");
    EXPECT_NE(input_, nullptr);
    EXPECT_TRUE(Rig::wait_until([&] { return std::filesystem::exists(folder_ / "port"); }));
    std::ifstream(folder_ / "port") >> port_;
  }
  ~GrpcServer() {
    ::pclose(input_);
    std::filesystem::remove_all(folder_);
  }
  int port() const { return port_; }

 private:
  std::filesystem::path folder_;
  FILE* input_ = nullptr;
  int port_ = 0;
};

class Http2Upstream : public ::testing::TestWithParam<Io> {
 protected:
  link::Route route(int port) const {
    return {.account = "1",
            .service = "s1",
            .service_name = "shop",
            .host_names = {"test.local"},
            .max_concurrency = 1000,
            .targets = {{.task = TaskId{"t"}, .address = "127.0.0.1", .port = port}},
            .protocol = link::TargetProtocol::kHttp2};
  }
};

TEST_P(Http2Upstream, CarriesGrpc) {
  GrpcServer server;
  Rig rig(GetParam());
  rig.apply({route(server.port())});
  EXPECT_EQ(output_of(fmt::format("timeout 120 {} call {}", kPeer, rig.port())), "well");
  EXPECT_LE(rig.usage().upstream_connections, 2u) << "a hundred calls at a time share one";
}

TEST_P(Http2Upstream, AnswersGrpcItselfAsGrpcWants) {
  const int nobody = Backend().port();  // closed again
  Rig rig(GetParam());
  link::Route slow = route(nobody);
  slow.queue_timeout = Duration(100);
  rig.apply({slow});
  EXPECT_EQ(output_of(fmt::format("timeout 60 {} error {} test.local", kPeer, rig.port())),
            "UNAVAILABLE");
  EXPECT_EQ(output_of(fmt::format("timeout 60 {} error {} nowhere.local", kPeer, rig.port())),
            "UNIMPLEMENTED");
  GrpcServer server;
  link::Route hasty = route(server.port());
  hasty.request_timeout = Duration(300);
  rig.apply({hasty});
  EXPECT_EQ(output_of(fmt::format("timeout 60 {} error {} test.local", kPeer, rig.port())),
            "DEADLINE_EXCEEDED");
}

INSTANTIATE_TEST_SUITE_P(Io, Http2Upstream, ::testing::ValuesIn(available_io()), io_test_name);

}  // namespace
}  // namespace hob::edge
