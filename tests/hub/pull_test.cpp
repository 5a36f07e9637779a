#include "hub/pull.h"

#include <filesystem>
#include <thread>

#include "hub/cache.h"
#include "support/fake_hub.h"
#include "support/support.h"

namespace shoehorn::hub {
namespace {
namespace fs = std::filesystem;

/// Bytes that repeat nowhere within a megabyte, so that a piece in the wrong place is seen.
std::string contents(size_t size, uint32_t seed) {
  std::string out(size, 0);
  uint32_t state = seed * 2654435761u + 1;
  for (char& c : out) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

struct Notes : NoProgress {
  void note(std::string_view text) override { all += std::string(text) + "\n"; }
  bool cancelled() const override { return cancel_now && cancel_now(); }
  std::string all;
  std::function<bool()> cancel_now;
};

class Pull : public ::testing::Test {
 protected:
  Pull() {
    hub.add("config.json", R"({"model_type":"llama"})", false);
    hub.add("tokenizer.json", contents(3000, 1), true);
    hub.add("model-00001-of-00002.safetensors", first, true);
    hub.add("model-00002-of-00002.safetensors", second, true);
    hub.add("model.safetensors.index.json",
            R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})", false);
    hub.add("README.md", "hello", false);
    options.reference.repository = FakeHub::kRepository;
    options.endpoint.url = hub.url();
    options.cache = test::temp_dir() + "/hub";
    options.patience = {4, 0.01, 2};
  }

  Expected<Pulled> pull() { return hub::pull(options, notes); }

  void expect_whole(const std::string& folder) const {
    EXPECT_EQ(test::read_text(folder + "/config.json"), R"({"model_type":"llama"})");
    EXPECT_EQ(test::read_text(folder + "/" + kFirst), first);
    EXPECT_EQ(test::read_text(folder + "/" + kSecond), second);
    EXPECT_FALSE(fs::exists(folder + "/README.md"));
  }
  std::string cache_folder() const { return options.cache + "/models--someone--small-model"; }
  int n_incomplete() const {
    int n = 0;
    for (const auto& entry : fs::directory_iterator(cache_folder() + "/blobs"))
      n += entry.path().extension() == ".incomplete";
    return n;
  }

  static constexpr const char* kFirst = "model-00001-of-00002.safetensors";
  static constexpr const char* kSecond = "model-00002-of-00002.safetensors";
  const std::string first = contents(3'000'000, 2), second = contents(2'000'000, 3);
  FakeHub hub;
  PullOptions options;
  Notes notes;
};

TEST_F(Pull, LiesInHuggingFacesLayout) {
  ASSERT_EXPECTED(const Pulled pulled, pull());
  EXPECT_EQ(pulled.path, cache_folder() + "/snapshots/" + FakeHub::kCommit);
  EXPECT_EQ(pulled.n_files, 5);
  EXPECT_EQ(pulled.fetched, pulled.bytes);
  expect_whole(pulled.path);
  EXPECT_EQ(test::read_text(cache_folder() + "/refs/main"), FakeHub::kCommit);
  // Links to blobs that are called by their digest: SHA-256, or git's id ("git hash-object" of the config above).
  EXPECT_EQ(fs::read_symlink(pulled.path + "/config.json"), "../../blobs/0972e95c1405cc1507c19dcbe784f7a36c930907");
  EXPECT_EQ(fs::read_symlink(pulled.path + "/" + kFirst).parent_path(), "../../blobs");
  EXPECT_EQ(fs::read_symlink(pulled.path + "/" + kFirst).filename().string().size(), 64u);
  EXPECT_EQ(n_incomplete(), 0);
}

TEST_F(Pull, WhatIsThereIsNotFetchedAgain) {
  ASSERT_TRUE(pull().has_value());
  ASSERT_EXPECTED(const Pulled again, pull());
  EXPECT_EQ(again.fetched, 0u);
  EXPECT_TRUE(again.asked);
  EXPECT_EQ(hub.asked_for(kFirst), 1);
  // A commit cannot change: the hub is not even asked.
  options.reference.revision = FakeHub::kCommit;
  const int asked = hub.asked_for("listing");
  ASSERT_EXPECTED(const Pulled commit, pull());
  EXPECT_FALSE(commit.asked);
  EXPECT_EQ(hub.asked_for("listing"), asked);
}

TEST_F(Pull, WithoutTheHub) {
  options.endpoint.offline = true;
  auto missing = pull();
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  options.endpoint.offline = false;
  ASSERT_TRUE(pull().has_value());
  options.endpoint.offline = true;
  ASSERT_EXPECTED(const Pulled offline, pull());
  expect_whole(offline.path);
  // A hub that cannot be reached: what was downloaded before, and a remark.
  options.endpoint = {"http://127.0.0.1:9", "", false};
  ASSERT_EXPECTED(const Pulled unreachable, pull());
  EXPECT_EQ(unreachable.path, offline.path);
  EXPECT_NE(notes.all.find("downloaded before"), std::string::npos) << notes.all;
  // But not when a shard is missing.
  fs::remove(offline.path + "/" + kSecond);
  EXPECT_FALSE(pull().has_value());
}

TEST_F(Pull, DroppedConnectionsGoOnWhereTheyBroke) {
  // Every connection breaks after 700,000 bytes.
  hub.set_fault(kFirst, [](const HttpRequest&, int, HttpAnswer& answer) { answer.drop_after = 700'000; });
  ASSERT_EXPECTED(const Pulled pulled, pull());
  expect_whole(pulled.path);
  EXPECT_EQ(hub.asked_for(kFirst), 5);
  std::vector<std::string> ranges;
  for (const HttpRequest& request : hub.server().requests()) {
    if (request.path.ends_with(kFirst) && request.headers.contains("range"))
      ranges.push_back(request.headers.at("range"));
  }
  EXPECT_EQ(ranges, (std::vector<std::string>{"bytes=700000-", "bytes=1400000-", "bytes=2100000-", "bytes=2800000-"}));
}

TEST_F(Pull, ServersThatBringNothingAreGivenUpAndGoneOnWithLater) {
  hub.set_fault(kFirst,
                [](const HttpRequest&, int n, HttpAnswer& answer) { answer.drop_after = n == 0 ? 1'000'000 : 0; });
  const auto failed = pull();
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_NE(failed.error().message.find("1000000 of 3000000"), std::string::npos) << failed.error().message;
  EXPECT_EQ(n_incomplete() >= 1, true);
  EXPECT_FALSE(fs::exists(cache_folder() + "/refs/main"));
  const size_t before = hub.server().requests().size();
  hub.set_fault(kFirst, [](const HttpRequest&, int, HttpAnswer&) {});
  ASSERT_EXPECTED(const Pulled pulled, pull());
  expect_whole(pulled.path);
  const auto requests = hub.server().requests();
  bool resumed = false;
  for (size_t i = before; i < requests.size(); ++i) {
    const auto range = requests[i].headers.find("range");
    resumed |=
        requests[i].path.ends_with(kFirst) && range != requests[i].headers.end() && range->second == "bytes=1000000-";
  }
  EXPECT_TRUE(resumed);
}

TEST_F(Pull, ServersWithoutRanges) {
  hub.set_fault(kFirst, [this](const HttpRequest&, int n, HttpAnswer& answer) {
    answer = {200, {}, first, {}, {}};
    if (n == 0) answer.drop_after = 1'000'000;
  });
  ASSERT_EXPECTED(const Pulled pulled, pull());
  expect_whole(pulled.path);
}

TEST_F(Pull, BusyHubsAreAskedAgain) {
  hub.set_fault(kSecond, [](const HttpRequest&, int n, HttpAnswer& answer) {
    if (n == 0) answer = {503, {}, "busy", {}, {}};
    if (n == 1) answer = {429, {{"Retry-After", "1"}}, "slow down", {}, {}};
  });
  hub.set_listing_fault([](const HttpRequest&, int n, HttpAnswer& answer) {
    if (n == 0) answer = {502, {}, "", {}, {}};
  });
  ASSERT_EXPECTED(const Pulled pulled, pull());
  expect_whole(pulled.path);
  EXPECT_NE(notes.all.find("429"), std::string::npos) << notes.all;
  EXPECT_EQ(hub.asked_for(kSecond), 3);
}

TEST_F(Pull, RefusalsSayWhatToDo) {
  const auto refused = [&](int status) {
    hub.set_listing_fault([=](const HttpRequest&, int, HttpAnswer& answer) { answer = {status, {}, "", {}, {}}; });
    const auto result = pull();
    return result ? std::string() : result.error().message;
  };
  EXPECT_NE(refused(401).find("HF_TOKEN"), std::string::npos);
  EXPECT_NE(refused(403).find("token does not give access"), std::string::npos);
  EXPECT_NE(refused(404).find("no such model"), std::string::npos);
  EXPECT_NE(refused(404).find("hf:someone/small-model"), std::string::npos);
  EXPECT_NE(refused(429).find("fewer requests"), std::string::npos);
  // Also for one file of it, when the listing was for everyone.
  hub.set_listing_fault(nullptr);
  hub.set_fault(kFirst, [](const HttpRequest&, int, HttpAnswer& answer) { answer = {401, {}, "gated", {}, {}}; });
  const auto gated = pull();
  ASSERT_FALSE(gated.has_value());
  EXPECT_NE(gated.error().message.find("HF_TOKEN"), std::string::npos);
  EXPECT_NE(gated.error().message.find(kFirst), std::string::npos);
  EXPECT_EQ(hub.asked_for(kFirst), 1);
}

TEST_F(Pull, TheTokenGoesToTheHubAlone) {
  HttpServer elsewhere([this](const HttpRequest& request) {
    EXPECT_FALSE(request.headers.contains("authorization"));
    EXPECT_EQ(request.path, "/store/1");
    return HttpAnswer{200, {}, first, {}, {}};
  });
  // Another host by name: libcurl compares host and port.
  const std::string url = elsewhere.url() + "/store/1";
  hub.set_fault(kFirst, [=](const HttpRequest& request, int, HttpAnswer& answer) {
    EXPECT_EQ(request.headers.at("authorization"), "Bearer hf_secret");
    answer = {302, {{"Location", url}}, "", {}, {}};
  });
  options.endpoint.token = "hf_secret";
  ASSERT_EXPECTED(const Pulled pulled, pull());
  expect_whole(pulled.path);
  EXPECT_EQ(elsewhere.requests().size(), 1u);
}

TEST_F(Pull, RedirectsWithoutEnd) {
  hub.set_fault(kFirst, [](const HttpRequest& request, int, HttpAnswer& answer) {
    answer = {302, {{"Location", request.path}}, "", {}, {}};
  });
  EXPECT_FALSE(pull().has_value());
  hub.set_fault(kFirst, [](const HttpRequest&, int, HttpAnswer& answer) {
    answer = {302, {{"Location", "file:///etc/passwd"}}, "", {}, {}};
  });
  EXPECT_FALSE(pull().has_value());
}

TEST_F(Pull, OtherContentsThanTheHubNames) {
  const auto flipped = [this] {
    std::string out = first;
    out[1'234'567] = static_cast<char>(out[1'234'567] ^ 1);
    return out;
  }();
  // Once may be an accident.
  hub.set_fault(kFirst, [=](const HttpRequest&, int n, HttpAnswer& answer) {
    if (n == 0) answer.body = flipped;
  });
  ASSERT_EXPECTED(const Pulled pulled, pull());
  expect_whole(pulled.path);
  fs::remove_all(options.cache);
  hub.set_fault(kFirst, [=](const HttpRequest&, int, HttpAnswer& answer) { answer.body = flipped; });
  const auto refused = pull();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalid);
  EXPECT_NE(refused.error().message.find("digest"), std::string::npos);
  EXPECT_FALSE(fs::exists(cache_folder() + "/snapshots/" + FakeHub::kCommit + "/" + kFirst));
}

TEST_F(Pull, LiesAboutLengths) {
  // More than announced: not written beyond it.
  hub.set_fault(kFirst, [this](const HttpRequest&, int, HttpAnswer& answer) {
    answer = {200, {}, first + "more", {}, {}};
  });
  auto refused = pull();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalid);
  EXPECT_NE(refused.error().message.find("more than the 3000000 bytes"), std::string::npos) << refused.error().message;
  // Less, and the connection ends as if that were all.
  hub.set_fault(kFirst, [this](const HttpRequest&, int, HttpAnswer& answer) {
    answer = {200, {}, first.substr(0, 1000), {}, {}};
  });
  refused = pull();
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("of 3000000 bytes"), std::string::npos) << refused.error().message;
  // A Content-Length beyond what comes.
  hub.set_fault(kFirst, [this](const HttpRequest&, int, HttpAnswer& answer) {
    answer = {200, {}, first, 1u << 31, {}};
  });
  ASSERT_EXPECTED(const Pulled pulled, pull());
  expect_whole(pulled.path);
}

TEST_F(Pull, AListingWithoutEndIsCutOff) {
  hub.set_listing_fault([](const HttpRequest&, int, HttpAnswer& answer) { answer.body = std::string(80u << 20, ' '); });
  const auto refused = pull();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
}

TEST_F(Pull, StopsWhenAskedAndGoesOn) {
  hub.set_fault(kFirst, [](const HttpRequest&, int, HttpAnswer& answer) { answer.drop_after = 100'000; });
  options.patience.first_pause_s = 30;
  const auto begun = std::chrono::steady_clock::now();
  notes.cancel_now = [&] { return hub.asked_for(kFirst) > 0; };
  const auto stopped = pull();
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10));
  notes.cancel_now = nullptr;
  hub.set_fault(kFirst, [](const HttpRequest&, int, HttpAnswer&) {});
  ASSERT_EXPECTED(const Pulled pulled, pull());
  expect_whole(pulled.path);
}

TEST_F(Pull, FilesComeSideBySide) {
  for (const char* path : {kFirst, kSecond}) {
    hub.set_fault(path, [this](const HttpRequest&, int, HttpAnswer&) {
      for (int i = 0; i < 200 && hub.server().most_at_once() < 2; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    });
  }
  ASSERT_TRUE(pull().has_value());
  EXPECT_GE(hub.server().most_at_once(), 2);
}

TEST_F(Pull, TwoAtOnceFetchOnce) {
  Expected<Pulled> other;
  std::thread thread([&] {
    NoProgress silent;
    other = hub::pull(options, silent);
  });
  const auto mine = pull();
  thread.join();
  ASSERT_TRUE(mine.has_value()) << mine.error().message;
  ASSERT_TRUE(other.has_value()) << other.error().message;
  EXPECT_EQ(hub.asked_for(kFirst), 1);
  expect_whole(mine->path);
}

TEST_F(Pull, OneGguf) {
  hub.add("small-Q4_K_M.gguf", contents(5000, 7), true);
  options.reference.file = "Q4_K_M";
  ASSERT_EXPECTED(const Pulled pulled, pull());
  EXPECT_EQ(pulled.path, cache_folder() + "/snapshots/" + FakeHub::kCommit + "/small-Q4_K_M.gguf");
  EXPECT_EQ(pulled.n_files, 1);
  EXPECT_EQ(test::read_text(pulled.path), contents(5000, 7));
}

TEST_F(Pull, BranchesWithSlashes) {
  options.reference.revision = "refs/pr/1";
  ASSERT_TRUE(pull().has_value());
  EXPECT_EQ(test::read_text(cache_folder() + "/refs/refs/pr/1"), FakeHub::kCommit);
  EXPECT_TRUE(hub.server().requests().front().path.find("/revision/refs%2Fpr%2F1?") != std::string::npos);
}

}  // namespace
}  // namespace shoehorn::hub
