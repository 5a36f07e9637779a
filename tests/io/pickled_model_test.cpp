#include <ctime>
#include <filesystem>
#include <set>

#include "io/checkpoint.h"
#include "model_fixture.h"

namespace shoehorn::io {
namespace {

using test::ExactBytes;
using test::ModelFixture;
using test::PickleWriter;
using test::raw;
using test::small_model;
using test::torch_file;

Expected<TorchFile> read(const std::string& bytes) {
  const ExactBytes exact(bytes);
  return read_pytorch_bin(exact.span(), "f");
}
Expected<TorchFile> read(const ModelFixture& fixture) { return read(test::model_file(fixture).zip()); }

std::set<std::string> names(const TorchFile& file) {
  std::set<std::string> out;
  for (const StoredTensor& tensor : file.tensors) out.insert(tensor.name);
  return out;
}

bool lists(const std::vector<std::string>& dropped, const std::string& text) {
  return std::find(dropped.begin(), dropped.end(), text) != dropped.end();
}

/// The start of an object that is a module: its attributes are to follow, then "ub".
void begin_module(PickleWriter& p) {
  p.global("torch.nn.modules.module", "Module").op(")\x81}(").text("_parameters").op("}").text("_buffers").op("}");
}

TEST(PickledModel, HasTheTensorsOfItsStateDict) {
  const ModelFixture fixture = small_model();
  std::set<std::string> expected = {"model.layers.0.self_attn.rotary_emb.inv_freq"};
  for (const auto& [name, tensor] : fixture.weights) expected.insert(name);
  ASSERT_EXPECTED(TorchFile file, read(fixture));
  EXPECT_EQ(names(file), expected);
  EXPECT_EQ(file.dropped, (std::vector<std::string>{
                              "model.layers.0.self_attn.rotary_emb._cos_cached (a buffer that state_dict() leaves out)",
                              "tokenizer (an object of transformers.models.llama.tokenization_llama.LlamaTokenizer)"}));
  for (const StoredTensor& tensor : file.tensors) {
    if (!fixture.weights.contains(tensor.name)) continue;
    const auto& stored = fixture.weights.at(tensor.name);
    EXPECT_EQ(tensor.shape, std::vector<uint64_t>(stored.shape.begin(), stored.shape.end())) << tensor.name;
    EXPECT_EQ(tensor.data.size(), stored.values.size() * sizeof(float));
  }
  ModelFixture root = fixture;
  root.at_root = true;
  ASSERT_EXPECTED(file, read(root));
  EXPECT_EQ(names(file), expected);
}

TEST(PickledModel, SaysWhatItIs) {
  ModelFixture fixture = small_model();
  ASSERT_EXPECTED(TorchFile file, read(fixture));
  ASSERT_TRUE(file.model.has_value());
  EXPECT_EQ(file.model->class_name, "LlamaForCausalLM");
  EXPECT_EQ(file.model->head_dim, 0);
  Json expected = fixture.config;
  expected["torch_dtype"] = "float16";
  expected["id2label"] = {{"0", "LABEL_0"}};
  EXPECT_EQ(file.model->config, expected);
  fixture.head_dim = 2;
  ASSERT_EXPECTED(file, read(fixture));
  EXPECT_EQ(file.model->head_dim, 2);
  ASSERT_EXPECTED(file, read(test::small_torch_file()));
  EXPECT_FALSE(file.model.has_value()) << "a state dict is no model";
}

TEST(PickledModel, IsCleanedAsStateDictsAre) {
  const std::string path = test::temp_dir() + "/pytorch_model.bin";
  test::write_text(path, test::model_file(small_model()).zip());
  ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(path));
  EXPECT_EQ(checkpoint.tensors().size(), small_model().weights.size());
  EXPECT_NE(checkpoint.find("model.layers.0.mlp.gate_proj.weight"), nullptr);
  EXPECT_TRUE(lists(checkpoint.dropped(),
                    "model.layers.0.self_attn.rotary_emb.inv_freq (rotary table, computed from the config)"));
  ASSERT_TRUE(checkpoint.model().has_value());
  EXPECT_EQ(checkpoint.model()->config["rms_norm_eps"], 1e-5);
}

TEST(PickledModel, TensorsOfOtherClassesAndStatesWithSlotsAreRead) {
  // torch._tensor._rebuild_from_type_v2(function, class, arguments, state); (dict, slots) as state.
  PickleWriter p;
  p.global("torch.nn.modules.module", "Module").op(")\x81}(").text("_parameters").op("}").text("w");
  p.global("torch._tensor", "_rebuild_from_type_v2").op("(").global("torch._utils", "_rebuild_tensor_v2");
  p.global("my.package", "Tensor").op("(").storage("FloatStorage", "0", 1).number(0).numbers({1}).numbers({1});
  p.op("\x89").global("collections", "OrderedDict").op(")Rt}tRs").text("_modules").op("}u}\x86").op("b");
  ASSERT_EXPECTED(const TorchFile file, read(torch_file(p.done(), {{"0", raw(1.0f)}})));
  EXPECT_EQ(names(file), std::set<std::string>{"w"});
}

TEST(PickledModel, CallsAreListedAndNotMade) {
  const std::string trace = test::temp_dir() + "/pickle-was-here";
  const auto attack = [&](PickleWriter& p) { p.global("posix", "system").op("(").text("touch " + trace).op("tR"); };
  ModelFixture fixture = small_model();
  fixture.beside = [&](PickleWriter& p) {
    p.text("extra");
    attack(p);
    p.text("reference").global("builtins", "exec").text("deep").op("}").text("list").op("](");
    p.global("shutil", "rmtree").op(")R").op("es");
  };
  fixture.attributes = [&](PickleWriter& p) {
    p.text("hook");
    attack(p);
    p.text("state_of_call");
    attack(p);
    p.op("}").text("a").number(1).op("sb");
  };
  ASSERT_EXPECTED(const TorchFile file, read(fixture));
  EXPECT_EQ(file.tensors.size(), fixture.weights.size() + 1);
  for (const char* text :
       {"extra (a call of posix.system, not made)", "hook (a call of posix.system, not made)",
        "state_of_call (a call of posix.system, not made)", "reference (a reference to builtins.exec, not imported)",
        "deep (no tensors in it)", "shutil.rmtree (called inside of what is not read: not called here)"}) {
    EXPECT_TRUE(lists(file.dropped, text)) << text << "\nin " << fmt::format("{}", fmt::join(file.dropped, "\n"));
  }
  EXPECT_FALSE(std::filesystem::exists(trace));
}

TEST(PickledModel, SomethingElseInTheirPlaceIsAnErrorForTensors) {
  ModelFixture fixture = small_model();
  fixture.parameters = [](PickleWriter& p) { p.text("scale").global("posix", "system").op(")R"); };
  EXPECT_FAILS(read(fixture), kUnsupported,
               "f: tensor scale: something else in its place: a call of posix.system, not made");
  fixture.parameters = [](PickleWriter& p) { p.text("scale").number(3); };
  EXPECT_FAILS(read(fixture), kUnsupported, "tensor scale: something else in its place: not a tensor");
  PickleWriter p;
  p.op("}").text("norm.weight").global("torch._utils", "_rebuild_qtensor").op(")Rs");
  EXPECT_FAILS(read(torch_file(p.done(), {})), kUnsupported, "tensor norm.weight");
  PickleWriter object;
  object.global("m", "C").op(")\x81}b");
  EXPECT_FAILS(read(torch_file(object.done(), {})), kInvalid, "no model but an object of m.C");
}

TEST(PickledModel, EveryTruncationOfThePickleIsAnError) {
  const test::ModelFile file = test::model_file(small_model());
  for (size_t n = 0; n < file.pickle.size(); ++n) {
    EXPECT_FALSE(read(torch_file(file.pickle.substr(0, n), file.storages)).has_value()) << n;
  }
  EXPECT_TRUE(read(file.zip()).has_value());
}

TEST(PickledModel, FlippedBitsNeverCrash) {
  std::mt19937 rng(6);
  const test::ModelFile file = test::model_file(small_model());
  int readable = 0;
  for (int i = 0; i < 5'000; ++i) {
    readable += read(torch_file(test::flip_bits(file.pickle, rng), file.storages)).has_value() ? 1 : 0;
  }
  EXPECT_GT(readable, 0);
  EXPECT_LT(readable, 5'000);
}

TEST(PickledModel, ModulesInThemselvesAreWalkedOnce) {
  PickleWriter p;
  p.global("torch.nn.modules.module", "Module").op(")\x81q\x01}q\x02(").text("_parameters").op("}").text("w");
  p.tensor("FloatStorage", "0", 1, 0, {1}, {1}).op("sq\x03");
  p.text("_buffers").op("h\x03").text("_modules").op("}q\x04(").text("self").op("h\x01").text("again").op("h\x01u");
  p.text("config").op("h\x01").text("loop").op("h\x02ub");
  const std::string bytes = torch_file(p.done(), {{"0", raw(1.0f)}});
  EXPECT_FAILS(read(bytes), kInvalid, "the model's configuration: values nested deeper than 32");

  PickleWriter modules;
  modules.global("torch.nn.modules.module", "Module").op(")\x81q\x01}(").text("_parameters").op("}").text("w");
  modules.tensor("FloatStorage", "0", 1, 0, {1}, {1}).op("s");
  modules.text("_modules").op("}(").text("self").op("h\x01").text("again").op("h\x01uub");
  ASSERT_EXPECTED(const TorchFile file, read(torch_file(modules.done(), {{"0", raw(1.0f)}})));
  EXPECT_EQ(names(file), std::set<std::string>{"w"});
  EXPECT_TRUE(lists(file.dropped, "self (an object met before)"));
}

// Each of these must end quickly, in an error or in few tensors.
TEST(PickledModel, BombsEndQuickly) {
  const std::clock_t start = std::clock();
  PickleWriter deep;
  for (int i = 0; i < 300; ++i) {
    begin_module(deep);
    deep.text("_modules").op("}").text("m");
  }
  deep.op("N");
  for (int i = 0; i < 300; ++i) deep.op("sub");
  EXPECT_FAILS(read(torch_file(deep.done(), {})), kInvalid, "nested deeper than 32");

  // Each module holds the one before twice.
  PickleWriter doubling;
  doubling.op(
      "Nq\x01"
      "0");
  for (int i = 0; i < 30; ++i) {
    begin_module(doubling);
    doubling.text("_modules")
        .op("}(")
        .text("a")
        .op("h\x01")
        .text("b")
        .op("h\x01uubq\x01"
            "0");
  }
  EXPECT_TRUE(read(torch_file(doubling.op("h\x01").done(), {})).has_value());

  // Many objects with the same large state, none of them a module, and modules with the same names of unsaved buffers.
  PickleWriter shared;
  shared.op("}q\x01(");
  for (int i = 0; i < 100'000; ++i) shared.number(i).op("N");
  shared.op("u0").global("m", "C").op(
      "q\x02"
      "0}(");
  for (int i = 0; i < 100'000; ++i)
    shared.number(i).op(
        "h\x02)\x81h\x01"
        "b");
  EXPECT_TRUE(read(torch_file(shared.op("u").done(), {})).has_value());
  PickleWriter unsaved;
  unsaved.op("\x8fq\x01(").text(std::string(1 << 20, 'x')).op("q\x02");
  for (int i = 0; i < 100'000; ++i) unsaved.op("h\x02");
  unsaved.op(
      "\x90"
      "0}(");
  for (int i = 0; i < 1'000; ++i) {
    unsaved.number(i);
    begin_module(unsaved);
    unsaved.text("_modules").op("}").text("_non_persistent_buffers_set").op("h\x01ub");
  }
  EXPECT_FAILS(read(torch_file(unsaved.op("u").done(), {})), kTooLarge, "buffers");

  // Long names and storages of long names, many times over.
  PickleWriter names;
  names.text(std::string(1000, 'n'))
      .op("q\x01"
          "0")
      .tensor("FloatStorage", "0", 1, 0, {1}, {1})
      .op("q\x02"
          "0}(");
  for (int i = 0; i < 300'000; ++i) names.op("h\x01h\x02");
  EXPECT_FAILS(read(torch_file(names.op("u").done(), {{"0", raw(1.0f)}})), kTooLarge, "bytes of tensor names");
  PickleWriter path;
  path.op("}").text("a").op("}").text(std::string(1020, 'n')).op("}").text("w");
  path.tensor("FloatStorage", "0", 1, 0, {1}, {1}).op("sss");
  EXPECT_FAILS(read(torch_file(path.done(), {{"0", raw(1.0f)}})), kInvalid, "has more than 1023 bytes");
  PickleWriter storage;
  storage.op("}").text("w").tensor("FloatStorage", std::string(2000, '0'), 1, 0, {1}, {1}).op("s");
  EXPECT_FAILS(read(torch_file(storage.done(), {})), kInvalid, "a name of 2000 bytes");

  // A million calls of functions with one long name.
  PickleWriter calls;
  calls.out = "\x80\x04";
  calls.text(std::string(1 << 20, 'm'))
      .op("q\x01"
          "0](");
  for (int i = 0; i < 500'000; ++i) calls.op("h\x01h\x01\x93)R");
  calls.op("e0}");
  EXPECT_TRUE(read(torch_file(calls.done(), {})).has_value());
  EXPECT_LT(std::clock() - start, 30 * CLOCKS_PER_SEC);
}

}  // namespace
}  // namespace shoehorn::io
