// Targets that speak HTTP/2: those that others wrote.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "edge/http2_test_rig.h"

namespace hob::edge {
namespace {

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
  EXPECT_EQ(output_of(fmt::format("timeout 120 {} call {}", kPeer, rig.port())), "2008 calls");
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

TEST_P(Http2Upstream, CarriesH2loadAndCurlToNghttpd) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("hob-t-nghttpd-{}", ::getpid());
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "hello") << "hello";
  std::ofstream(folder / "big") << std::string(3'000'000, 'b');
  const int port = Backend().port();  // free again
  FILE* nghttpd = ::popen(fmt::format("nghttpd --no-tls -a 127.0.0.1 -d {} {} & p=$!; cat; kill $p",
                                      folder.string(), port)
                              .c_str(),
                          "w");
  ASSERT_NE(nghttpd, nullptr);
  EXPECT_TRUE(Rig::wait_until([&] {
    const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }));
  Rig rig(GetParam());
  rig.apply({route(port)});
  const std::string curl =
      fmt::format("curl -sS --max-time 60 --resolve test.local:{0}:127.0.0.1 http://test.local:{0}",
                  rig.port());
  for (const char* version : {" --http1.1", " --http2-prior-knowledge"}) {
    EXPECT_EQ(output_of(curl + "/hello" + version), "hello");
    EXPECT_EQ(output_of(curl + "/big" + version).size(), 3'000'000u);
    EXPECT_EQ(output_of(curl + "/none -o /dev/null -w '%{http_code}'" + version), "404");
    EXPECT_EQ(output_of(curl + "/hello -d some -o /dev/null -w '%{http_code}'" + version), "200");
  }
  const std::string h2load =
      output_of(fmt::format("timeout 60 h2load -n 3000 -c 4 -m 100 -H ':authority: test.local' "
                            "http://127.0.0.1:{}/hello",
                            rig.port()));
  EXPECT_NE(h2load.find("3000 succeeded, 0 failed"), std::string::npos) << h2load;
  ::pclose(nghttpd);
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(Io, Http2Upstream, ::testing::ValuesIn(available_io()), io_test_name);

}  // namespace
}  // namespace hob::edge
