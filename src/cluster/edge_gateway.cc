#include "cluster/edge_gateway.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace hob::cluster {

// An edge's place among the links, given up on every way out of serve(), cancelled too.
class EdgeGateway::Registration {
 public:
  Registration(EdgeGateway& gateway, const link::EdgeHello& hello,
               std::shared_ptr<link::Session> session)
      : gateway_(gateway), edge_(hello.edge), session_(std::move(session)) {
    Link& place = gateway_.links_[edge_];
    if (place.session) place.session->close();
    place = {.session = session_,
             .edge = {.id = hello.edge, .zone = hello.zone, .version = hello.version}};
    gateway_.tracker_.connected(edge_, gateway_.clock_.now());
  }
  ~Registration() {
    if (!mine()) return;
    gateway_.links_.erase(edge_);
    gateway_.tracker_.left(edge_, gateway_.clock_.now());
    gateway_.changed_();
  }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
  bool mine() const {
    const auto found = gateway_.links_.find(edge_);
    return found != gateway_.links_.end() && found->second.session == session_;
  }

 private:
  EdgeGateway& gateway_;
  EdgeId edge_;
  std::shared_ptr<link::Session> session_;
};

EdgeGateway::EdgeGateway(const ClusterPorts& ports, const Clock& clock, Instant started_at,
                         std::function<void()> changed,
                         std::function<void(const std::set<std::string>& services)> told)
    : ports_(ports),
      clock_(clock),
      changed_(std::move(changed)),
      told_(std::move(told)),
      tracker_(started_at) {}

Async<> EdgeGateway::serve(std::shared_ptr<link::Session> session, link::EdgeHello hello) {
  const Registration registration(*this, hello, session);
  log::info("edge connected", {{"edge", hello.edge.value}, {"version", hello.version}});
  if (published_) {
    send(*session);
    send_certificates(*session);
  }
  changed_();
  for (;;) {
    Result<link::Message> message = co_await session->receive();
    if (!message || !registration.mine()) break;
    link::EdgeReport report;
    if (const Result<void> taken = decode(*message, report); !taken) {
      log::error("edge link ended", {{"edge", hello.edge.value}, {"error", taken.error().message}});
      session->close();
      break;
    }
    Link& link = links_[hello.edge];
    link.applied_version = report.applied_version;
    link.certificates_version = report.certificates_version;
    if (tracker_.reported(hello.edge, report)) changed_();
    if (const auto told = outcomes_.reported(hello.edge, report, clock_.now()); !told.empty())
      told_(told);
    if (ports_.load) ports_.load(hello.edge, report);
  }
  log::info("edge disconnected", {{"edge", hello.edge.value}});
}

void EdgeGateway::publish(std::vector<link::Route> routes,
                          std::vector<link::AcmeChallenge> challenges, int64_t revision) {
  const int64_t version =
      revision + 1;  // an empty store is at revision 0, which means "none" as a version
  const bool same = routes == table_.routes && challenges == table_.challenges;
  if (published_ && (same || version <= table_.version)) return;
  table_ = {
      .version = version, .routes = std::move(routes), .challenges = std::move(challenges)};
  published_ = true;
  tracker_.sent(table_, clock_.now());
  for (auto& [edge, link] : links_) send(*link.session);
}

void EdgeGateway::publish(std::vector<link::EdgeCertificate> certificates, int64_t revision) {
  if (certificates_.version > 0 && certificates == certificates_.certificates) return;
  certificates_ = {.version = revision + 1, .certificates = std::move(certificates)};
  for (auto& [edge, link] : links_) send_certificates(*link.session);
}

bool EdgeGateway::all_answer(const link::AcmeChallenge& challenge) const {
  const auto applied = [this](const auto& item) {
    return item.second.applied_version >= table_.version;
  };
  return !links_.empty() && std::ranges::find(table_.challenges, challenge) !=
                                table_.challenges.end() && std::ranges::all_of(links_, applied);
}

bool EdgeGateway::all_show(const std::string& shown_id, const std::string& host_name) const {
  const auto applied = [this](const auto& item) {
    return item.second.certificates_version >= certificates_.version;
  };
  const auto found =
      std::ranges::find(certificates_.certificates, shown_id, &link::EdgeCertificate::id);
  return !links_.empty() && found != certificates_.certificates.end() &&
         std::ranges::find(found->host_names, host_name) != found->host_names.end() &&
         std::ranges::all_of(links_, applied);
}

void EdgeGateway::send_certificates(link::Session& session) {
  const std::vector<link::EdgeCertificate>& all = certificates_.certificates;
  for (size_t from = 0;;) {
    link::CertificateTable part{.version = certificates_.version};
    for (size_t bytes = 0; from < all.size(); ++from) {
      const size_t more = link::encode_json(all[from]).size();
      if (!part.certificates.empty() && bytes + more > kCertificateMessageBytes) break;
      bytes += more;
      part.certificates.push_back(all[from]);
    }
    part.more = from < all.size();
    if (const Result<void> sent = session.send(encode(part)); !sent) {
      log::error("edge link ended", {{"error", sent.error().message}});
      session.close();
      return;
    }
    if (!part.more) return;
  }
}

void EdgeGateway::send(link::Session& session) {
  if (const Result<void> sent = session.send(encode(table_)); !sent) {
    log::error("edge link ended", {{"error", sent.error().message}});
    session.close();
  }
}

void EdgeGateway::expect(const std::vector<EdgeId>& edges) {
  for (const EdgeId& edge : edges) tracker_.expect(edge, clock_.now());
}

std::vector<Edge> EdgeGateway::edges() const {
  std::vector<Edge> linked;
  for (const auto& [id, link] : links_) linked.push_back(link.edge);
  return linked;
}

void EdgeGateway::close() {
  for (auto& [edge, link] : links_) link.session->close();
}

}  // namespace hob::cluster
