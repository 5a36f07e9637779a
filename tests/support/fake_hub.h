// A hub with one repository, whose faults a test chooses.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "support/http_server.h"

namespace shoehorn::hub {

class FakeHub {
 public:
  /// Called before a file is sent: `answer` is what a good hub would say (200 or 206), `n` how often the file was asked
  /// for before.
  using Fault = std::function<void(const HttpRequest& request, int n, HttpAnswer& answer)>;

  FakeHub();
  /// Before the first request.
  void add(const std::string& path, const std::string& contents, bool large);
  void set_fault(const std::string& path, Fault fault) { faults_[path] = std::move(fault); }
  /// In place of the answer to a question for the repository's files.
  void set_listing_fault(std::function<void(const HttpRequest&, int n, HttpAnswer&)> fault) {
    listing_fault_ = std::move(fault);
  }

  std::string url() const { return server_.url(); }
  const HttpServer& server() const { return server_; }
  static constexpr const char* kRepository = "someone/small-model";
  static constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";
  /// Requests for a file's contents.
  int asked_for(const std::string& path) const;

 private:
  struct File {
    std::string contents, digest;
    bool large;
  };
  HttpAnswer answer(const HttpRequest& request);
  HttpAnswer listing() const;

  std::map<std::string, File> files_;
  std::map<std::string, Fault> faults_;
  Fault listing_fault_;
  mutable std::mutex mutex_;
  std::map<std::string, int> n_asked_;
  HttpServer server_;
};

}  // namespace shoehorn::hub
