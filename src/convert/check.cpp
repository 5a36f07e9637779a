#include "convert/check.h"

#include "convert/row_stream.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::convert {

Expected<CheckResult> check_model(const std::string& path, int n_threads, Progress& progress) {
  SHOEHORN_TRY(const auto source, ModelSource::open(path, progress));
  SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_gguf(source.metadata(), path));
  if (vocab.tokens.size() > source.hparams().n_vocab) {
    return fail(ErrorCode::kInvalid, "{}: the tokenizer has {} tokens, the embedding {} rows", path, vocab.tokens.size(),
                source.hparams().n_vocab);
  }
  const auto tokenizer = tokenizer::Tokenizer::create(std::move(vocab));
  if (!tokenizer) return annotate(tokenizer.error(), path);

  CheckResult result{models::gguf_name(source.architecture(), source.hparams()), source.tensors().size(), 0};
  ThreadPool pool(n_threads > 0 ? n_threads : default_thread_count());
  uint64_t n_weights = 0;
  for (const SourceTensor& tensor : source.tensors()) n_weights += tensor.n_cols() * tensor.n_rows();
  progress.begin("checking", n_weights);
  for (const SourceTensor& tensor : source.tensors()) {
    result.bytes += tensor.data.size();
    const auto checked = for_each_chunk(tensor, progress, [&](uint64_t first, uint64_t count) {
      return visit_rows(tensor, first, count, pool, [](uint64_t, const float*) {});
    });
    if (!checked) return annotate(checked.error(), path);
  }
  progress.end();
  return result;
}

}  // namespace shoehorn::convert
