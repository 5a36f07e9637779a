#include "hub/transfer.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace shoehorn::hub {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLongestPause = 60;
/// A server that brings a piece of this size and then fails is asked again as often as it likes.
constexpr uint64_t kProgress = uint64_t{256} << 10;
constexpr int kPollMs = 100;

/// libcurl's global state, set up once.
void set_up_curl() {
  static const CURLcode done = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)done;
}

bool worth_another_try(long status) { return status == 408 || status == 429 || status >= 500; }

struct Easy {
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle{curl_easy_init(), curl_easy_cleanup};
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers{nullptr, curl_slist_free_all};
  char message[CURL_ERROR_SIZE] = {};

  Easy(const std::string& url, const std::string& token, const Patience& patience) {
    CURL* h = handle.get();
    curl_easy_setopt(h, CURLOPT_URL, url.c_str());
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "shoehorn");
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, url.starts_with("https:") ? "https" : "http,https");
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(h, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, std::max(1L, static_cast<long>(patience.stall_s)));
    if (!token.empty()) {
      // libcurl leaves a header of this name out when it is redirected to another host.
      headers.reset(curl_slist_append(nullptr, ("Authorization: Bearer " + token).c_str()));
      curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers.get());
    }
  }

  long status() const {
    long out = 0;
    curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &out);
    return out;
  }
  std::string error(CURLcode code) const { return message[0] != 0 ? message : curl_easy_strerror(code); }
};

/// Counts attempts in a row that brought nothing, and says how long to wait for the next one.
class Attempts {
 public:
  explicit Attempts(const Patience& patience) : patience_(patience) {}

  /// False when it is enough.
  bool again() { return ++failed_ < patience_.attempts; }
  void succeeded() { failed_ = 0; }
  double pause(const Easy& easy) const {
    curl_off_t asked = 0;
    curl_easy_getinfo(easy.handle.get(), CURLINFO_RETRY_AFTER, &asked);
    if (asked > 0) return std::min(static_cast<double>(asked), kLongestPause);
    return std::min(patience_.first_pause_s * static_cast<double>(1 << std::min(failed_ - 1, 10)), kLongestPause);
  }

 private:
  const Patience& patience_;
  int failed_ = 0;
};

/// One file on its way.
class Transfer {
 public:
  Transfer(const Download& download, const std::string& token, const Patience& patience, Progress& progress)
      : d_(download),
        token_(token),
        patience_(patience),
        progress_(progress),
        attempts_(patience),
        digest_(d_.kind, d_.size) {}
  ~Transfer() {
    if (fd_ >= 0) ::close(fd_);
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  /// Takes up what is there.
  Status open() {
    fd_ = ::open(d_.partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) return system_error();
    std::vector<std::byte> piece(size_t{1} << 20);
    for (ssize_t n = 0; (n = ::pread(fd_, piece.data(), piece.size(), static_cast<off_t>(at_))) != 0;) {
      if (n < 0) return system_error();
      if (at_ + static_cast<uint64_t>(n) > d_.size) return restart();
      digest_.add(std::span(piece).first(static_cast<size_t>(n)));
      at_ += static_cast<uint64_t>(n);
      progress_.advance(static_cast<uint64_t>(n));
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    }
    return {};
  }

  bool whole() const { return at_ == d_.size; }

  /// A request for the rest.
  CURL* request() {
    easy_ = std::make_unique<Easy>(d_.url, token_, patience_);
    CURL* h = easy_->handle.get();
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, &Transfer::take_for);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(h, CURLOPT_PRIVATE, this);
    if (at_ > 0) curl_easy_setopt(h, CURLOPT_RANGE, fmt::format("{}-", at_).c_str());
    asked_at_ = at_;
    begun_ = false;
    failure_.reset();
    return h;
  }

  /// What came of the request: whole, or not yet (then wait until next_try()), or an error.
  Status answered(CURLcode code) {
    const long status = easy_->status();
    if (failure_ && (failure_->code != ErrorCode::kInvalid || std::exchange(mistaken_, true)))
      return tl::unexpected(*failure_);
    if (at_ >= asked_at_ + kProgress) attempts_.succeeded();
    if (code == CURLE_OK && status / 100 == 2 && whole()) return {};
    const std::string why = what_went_wrong(code, status);
    if (code == CURLE_OK && status == 416) SHOEHORN_RETURN_IF_ERROR(restart());
    if (code == CURLE_OK && status / 100 != 2 && status != 416 && !worth_another_try(status)) {
      return tl::unexpected(refusal(d_.name, status));
    }
    if (!attempts_.again()) {
      return fail(ErrorCode::kIo, "{}; {} of {} bytes are there, the same command goes on from them", why, at_,
                  d_.size);
    }
    const double pause = attempts_.pause(*easy_);
    next_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(pause));
    progress_.note(fmt::format("{}; once more in {:.0f} s", why, pause));
    return {};
  }
  Clock::time_point next_try() const { return next_; }

  /// Checks the digest and gives the file its name. False: it was something else, and is to be fetched anew.
  Expected<bool> finish() {
    const std::string digest = digest_.hex();
    if (digest != d_.digest) {
      SHOEHORN_RETURN_IF_ERROR(restart());
      if (std::exchange(mistaken_, true)) {
        return fail(ErrorCode::kInvalid, "{}: what comes has the digest {}, the hub names {}", d_.name, digest,
                    d_.digest);
      }
      progress_.note(
          fmt::format("{}: the digest is not the one that the hub names; once more from the beginning", d_.name));
      return false;
    }
    if (::fdatasync(fd_) != 0 || ::rename(d_.partial.c_str(), d_.path.c_str()) != 0)
      return tl::unexpected(system_error().error());
    return true;
  }

 private:
  std::string what_went_wrong(CURLcode code, long status) const {
    if (failure_) return failure_->message;
    if (code != CURLE_OK) return fmt::format("{}: {}", d_.name, easy_->error(code));
    if (status / 100 != 2) return refusal(d_.name, status).message;
    return fmt::format("{}: the server ends after {} of {} bytes", d_.name, at_, d_.size);
  }

  static size_t take_for(char* data, size_t size, size_t count, void* self) {
    return static_cast<Transfer*>(self)->take(std::as_bytes(std::span(data, size * count))) ? size * count
                                                                                            : CURL_WRITEFUNC_ERROR;
  }

  bool take(std::span<const std::byte> bytes) {
    const long status = easy_->status();
    if (status / 100 != 2) return true;  // the text of a refusal
    if (!begun_) {
      begun_ = true;
      // A server that does not know ranges sends all of it again.
      if (at_ > 0 && status != 206) {
        if (const Status done = restart(); !done) return refuse(done.error());
      }
    }
    if (bytes.size() > d_.size - at_) {
      if (const Status done = restart(); !done) return refuse(done.error());
      return refuse({ErrorCode::kInvalid,
                     fmt::format("{}: the server sends more than the {} bytes that the hub names", d_.name, d_.size)});
    }
    for (size_t written = 0; written < bytes.size();) {
      const ssize_t n =
          ::pwrite(fd_, bytes.data() + written, bytes.size() - written, static_cast<off_t>(at_ + written));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return refuse(system_error().error());
      written += static_cast<size_t>(n);
    }
    digest_.add(bytes);
    at_ += bytes.size();
    progress_.advance(bytes.size());
    return true;
  }

  bool refuse(const Error& error) {
    failure_ = error;
    return false;
  }

  Status restart() {
    at_ = 0;
    digest_ = Digest(d_.kind, d_.size);
    if (::ftruncate(fd_, 0) != 0) return system_error();
    return {};
  }

  Status system_error() const { return fail(ErrorCode::kIo, "{}: {}", d_.partial, std::strerror(errno)); }

  const Download& d_;
  const std::string& token_;
  const Patience& patience_;
  Progress& progress_;
  Attempts attempts_;
  Digest digest_;
  int fd_ = -1;
  uint64_t at_ = 0, asked_at_ = 0;
  std::unique_ptr<Easy> easy_;
  std::optional<Error> failure_;
  Clock::time_point next_ = Clock::now();
  bool begun_ = false, mistaken_ = false;
};

/// All transfers, some of them running.
class Transfers {
 public:
  Transfers(std::span<const Download> downloads, const std::string& token, int n_parallel, const Patience& patience,
            Progress& progress)
      : n_parallel_(static_cast<size_t>(std::max(1, n_parallel))), progress_(progress) {
    for (const Download& download : downloads)
      waiting_.push_back(std::make_unique<Transfer>(download, token, patience, progress));
    std::reverse(waiting_.begin(), waiting_.end());
  }
  ~Transfers() {
    for (const auto& [handle, transfer] : running_) curl_multi_remove_handle(multi_.get(), handle);
  }
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  Status run() {
    while (!waiting_.empty() || !running_.empty() || !paused_.empty()) {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped; the same command goes on from here");
      SHOEHORN_RETURN_IF_ERROR(start());
      int n_running = 0;
      curl_multi_perform(multi_.get(), &n_running);
      SHOEHORN_RETURN_IF_ERROR(collect());
      if (!running_.empty()) {
        curl_multi_poll(multi_.get(), nullptr, 0, kPollMs, nullptr);
      } else if (!paused_.empty()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs / 4));
      }
    }
    return {};
  }

 private:
  Status start() {
    for (size_t i = 0; i < paused_.size();) {
      if (paused_[i]->next_try() > Clock::now()) {
        ++i;
        continue;
      }
      ask(std::move(paused_[i]));
      paused_.erase(paused_.begin() + static_cast<ptrdiff_t>(i));
    }
    while (!waiting_.empty() && running_.size() + paused_.size() < n_parallel_) {
      auto transfer = std::move(waiting_.back());
      waiting_.pop_back();
      SHOEHORN_RETURN_IF_ERROR(transfer->open());
      SHOEHORN_RETURN_IF_ERROR(go_on(std::move(transfer)));
    }
    return {};
  }

  /// Asks for what is missing, or finishes.
  Status go_on(std::unique_ptr<Transfer> transfer) {
    if (transfer->whole()) {
      SHOEHORN_TRY(const bool done, transfer->finish());
      if (done) return {};
    }
    ask(std::move(transfer));
    return {};
  }

  void ask(std::unique_ptr<Transfer> transfer) {
    CURL* handle = transfer->request();
    curl_multi_add_handle(multi_.get(), handle);
    running_.emplace_back(handle, std::move(transfer));
  }

  Status collect() {
    int n_left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &n_left)) {
      if (message->msg != CURLMSG_DONE) continue;
      CURL* handle = message->easy_handle;
      const CURLcode code = message->data.result;
      const auto it =
          std::find_if(running_.begin(), running_.end(), [&](const auto& entry) { return entry.first == handle; });
      auto transfer = std::move(it->second);
      curl_multi_remove_handle(multi_.get(), handle);
      running_.erase(it);
      SHOEHORN_RETURN_IF_ERROR(transfer->answered(code));
      if (transfer->whole()) {
        SHOEHORN_RETURN_IF_ERROR(go_on(std::move(transfer)));
      } else {
        paused_.push_back(std::move(transfer));
      }
    }
    return {};
  }

  const size_t n_parallel_;
  Progress& progress_;
  std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)> multi_{curl_multi_init(), curl_multi_cleanup};
  std::vector<std::unique_ptr<Transfer>> waiting_, paused_;
  std::vector<std::pair<CURL*, std::unique_ptr<Transfer>>> running_;
};

struct TextSink {
  std::string text;
  uint64_t limit;
  bool too_large = false;
};

size_t take_text(char* data, size_t size, size_t count, void* to) {
  auto& sink = *static_cast<TextSink*>(to);
  sink.too_large = sink.text.size() + size * count > sink.limit;
  if (sink.too_large) return CURL_WRITEFUNC_ERROR;
  sink.text.append(data, size * count);
  return size * count;
}

int ask_progress(void* progress, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Progress*>(progress)->cancelled() ? 1 : 0;
}

}  // namespace

Error refusal(const std::string& name, long status) {
  const auto says = [&](ErrorCode code, std::string_view what) {
    return Error{code, fmt::format("{}: {}", name, what)};
  };
  switch (status) {
    case 401:
      return says(ErrorCode::kNotFound,
                  "not there, or not for everyone (401): set HF_TOKEN to an access token of one who may have it");
    case 403:
      return says(ErrorCode::kNotFound, "the token does not give access (403): the model's page says what it asks for");
    case 404:
      return says(ErrorCode::kNotFound, "the hub has no such model, revision or file (404)");
    case 429:
      return says(ErrorCode::kIo, "the hub asks for fewer requests (429): try again later, or set HF_TOKEN");
    default:
      return says(ErrorCode::kIo, fmt::format("the hub answers {}", status));
  }
}

Status fetch_files(std::span<const Download> downloads, const std::string& token, int n_parallel,
                   const Patience& patience, Progress& progress) {
  set_up_curl();
  uint64_t total = 0;
  for (const Download& download : downloads) total += download.size;
  progress.begin("downloading", total);
  Transfers transfers(downloads, token, n_parallel, patience, progress);
  const Status status = transfers.run();
  progress.end();
  return status;
}

Expected<Text> fetch_text(const std::string& url, const std::string& token, uint64_t max_bytes,
                          const Patience& patience, Progress& progress) {
  set_up_curl();
  for (Attempts attempts(patience);;) {
    Easy easy(url, token, patience);
    TextSink sink{{}, max_bytes};
    CURL* h = easy.handle.get();
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, take_text);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &sink);
    curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, ask_progress);
    curl_easy_setopt(h, CURLOPT_XFERINFODATA, &progress);
    const CURLcode code = curl_easy_perform(h);
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    if (sink.too_large) return fail(ErrorCode::kTooLarge, "{}: the answer is longer than {} bytes", url, max_bytes);
    if (code == CURLE_OK && !worth_another_try(easy.status())) return Text{easy.status(), std::move(sink.text)};
    // Nobody there at all: asking again helps rarely, and what is in the cache may do.
    const bool nobody = code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT;
    if (!attempts.again() || nobody) {
      if (code == CURLE_OK) return Text{easy.status(), std::move(sink.text)};
      return fail(ErrorCode::kIo, "{}: {}", url, easy.error(code));
    }
    const auto until = Clock::now() + std::chrono::duration<double>(attempts.pause(easy));
    while (Clock::now() < until) {
      if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs / 4));
    }
  }
}

}  // namespace shoehorn::hub
