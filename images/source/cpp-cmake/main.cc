#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

int main() {
  std::signal(SIGPIPE, SIG_IGN);
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  const int yes = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(std::getenv("PORT"))));
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 1;
  if (::listen(listener, SOMAXCONN) != 0) return 1;
  const std::string body = "hello from c++\n";
  const std::string answer =
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  while (true) {
    const int peer = ::accept(listener, nullptr, nullptr);
    if (peer < 0) continue;
    char request[4096];
    if (::read(peer, request, sizeof request) > 0 && ::write(peer, answer.data(), answer.size()) < 0) return 1;
    ::close(peer);
  }
}
