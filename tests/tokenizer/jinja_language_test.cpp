// The language of chat templates: what Jinja 3.1 and @huggingface/jinja 0.5.11 agree on, and what we chose where not.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tokenizer/chat_template.h"

namespace shoehorn::tokenizer {
namespace {

std::string render(std::string_view source) {
  ChatInputs inputs;
  inputs.messages = ChatInputs::OrderedJson::parse(
      R"([{"role": "user", "content": "u1"}, {"role": "assistant", "content": "a1"}, {"role": "user", "content": "u2"}])");
  auto chat_template = ChatTemplate::parse(source);
  if (!chat_template) return "error: " + chat_template.error().message;
  const auto text = chat_template->render(inputs);
  return text ? *text : "error: " + text.error().message;
}

struct Row {
  std::string source, expected;
};

void expect_all(const std::vector<Row>& rows) {
  for (const Row& row : rows) EXPECT_EQ(render(row.source), row.expected) << row.source;
}

TEST(JinjaWhitespace, TrimsBlocksAndTheirIndentation) {
  expect_all({
      {"  {% if true %}\n  x\n  {% endif %}\ny\n", "  x\ny"},
      {"a\n  {%- if true -%}\n  x\n  {%- endif -%}\nb\n", "axb"},
      {"a\n\n{# c #}\n\n  {# d #} e\n", "a\n\n\n e"},
      {"x\n{{ 'a' }}\n  {{ 'b' }}\n\n", "x\na\n  b\n"},
      {"{{- 'a' -}}  b  {{- 'c' }} d",
       "ab"
       "c d"},
      {"  {%+ if 1 %}x{%+ endif %}\n y", "  x y"},
      {"{% if 1 +%}\nx{% endif +%}\n y", "\nx\n y"},
      {"\t{% if 1 %}\ta\t{% endif %}\tb", "\ta\t\tb"},
      {"a {#- c -#} b {#d#} c", "ab  c"},
      {"x\r\n{% if 1 %}\r\ny{% endif %}", "x\ny"},
      {"{% generation %}x{% endgeneration %}y", "xy"},
      {"{ } %} }} # {x", "{ } %} }} # {x"},
  });
}

TEST(JinjaWhitespace, LeavesRawBlocksAlone) {
  expect_all({
      {"{% raw %}{{ x }}{% y %}{# z #}{% endraw %}!", "{{ x }}{% y %}{# z #}!"},
      {"a {% raw -%}  {{ x }}  {%- endraw %} z", "a {{ x }} z"},
      {"{% raw %}\n {{ x }}\n{% endraw %}\n z", "\n {{ x }}\n z"},
  });
}

TEST(JinjaExpressions, ComputeAsPythonDoes) {
  expect_all({
      {"{{ 1 + 2 * 3 - 4 // 3 % 2 }} {{ 7 // -2 }} {{ -7 // 2 }} {{ -10 % 3 }} {{ 10.5 % 3 }}", "6 -4 -4 2 1.5"},
      {"{{ 2 ** 3 ** 2 }} {{ 4 / 2 }} {{ 7 / 2 }} {{ 1.5 + 1 }} {{ 2 ** -1 }}", "64 2.0 3.5 2.5 0.5"},
      {"{{ 0.1 + 0.2 }} {{ 1.0 }} {{ 100000.0 * 1000 }} {{ 1e25 }} {{ 1 / 3 }}",
       "0.30000000000000004 1.0 100000000.0 1e+25 0.3333333333333333"},
      {"{{ 'a' ~ 1 ~ 2.5 ~ true }} {{ 'x' + 1 }} {{ 1 + 2 ~ 'x' }} {{ 'a' * 3 }}", "a12.5true x1 3x aaa"},
      {"{{ [1, 2] + [3] }} {{ [0] * 2 }} {{ -(2) }} {{ +3 }} {{ 3 -1 }} {{ -2 | abs }}", "[1, 2, 3] [0, 0] -2 3 2 2"},
      {"{{ 1 if false }}|{{ 1 if true else 2 }}|{{ 'x' if none else 'y' if 0 else 'z' }}", "|1|z"},
      {"{{ not true or true and false }} {{ true and 'x' }} {{ '' or 'y' }} {{ 0 and 1 }} {{ not not 1 }}",
       "false x y 0 true"},
      {"{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ 1 == '1' }} {{ true == 1 }}",
       "true false true true false true"},
      {"{{ 'b' in 'abc' }} {{ 'z' not in ['a', 'z'] }} {{ 'k' in {'k': 1} }} {{ 'a' in missing }}",
       "true false true false"},
      {"{{ 'a' 'b' \"c\" }} {{ \"q\\\"x\\n\\t\\\\ \\d\" }} {{ '\\u00e9\\x41\\ud83d\\ude42' }}",
       "abc q\"x\n\t\\ \\d éA🙂"},
      {"{{ \"}}\" }}{{ '%}' }}{{ {'a': {'b': {'c': 2}}}.a.b }}", "}}%}{\"c\": 2}"},
      {"{{ [1, 2] == [1, 2] }} {{ none == missing }} {{ messages[0] == messages[0] }} {{ {'a': 1} == {'a': 1} }}",
       "true true true false"},
  });
}

TEST(JinjaExpressions, SliceAndIndexByCharacter) {
  expect_all({
      {"{{ [1, 2, 3][1:] }} {{ [1, 2, 3][::-1] }} {{ [1, 2, 3, 4][-3:-1] }} {{ [1, 2][5:] }} {{ [1, 2, 3][-1] }}",
       "[2, 3] [3, 2, 1] [2, 3] [] 3"},
      {"{{ 'hello'[1:3] }} {{ 'hello'[-1] }} {{ 'hello'[::2] }} {{ 'hé🙂llo'[1:3] }} {{ 'hé🙂llo'[::-1] }}",
       "el o hlo é🙂 oll🙂éh"},
      {"{{ 'hé🙂'[2] }} {{ 'é🙂' | length }} {{ 'abc'[9] is defined }} {{ messages[-1].content }} {{ messages[1:] "
       "| length }}",
       "🙂 2 false u2 2"},
      {"{{ [[1, 2]].0.1 }} {{ 'abc'[none:2] }}", "2 ab"},
  });
}

TEST(JinjaValues, ArePrintedAsTheOracleDoes) {
  expect_all({
      {"{{ none }}|{{ missing }}|{{ true }}|{{ [none, true, 1.5, 'a'] }}|{{ missing.a.b }}",
       "||true|[null, true, 1.5, \"a\"]|"},
      {"{{ {'a': 1, 'b': [1, {'c': none}], 2: 'two'} }}", R"({"a": 1, "b": [1, {"c": null}], "2": "two"})"},
      {"{{ {'a': 1, 'b': [1, {}], 'e': []} | tojson(indent=2) }}",
       "{\n  \"a\": 1,\n  \"b\": [\n    1,\n    {}\n  ],\n  \"e\": []\n}"},
      {R"({{ {'b': 1, 'a': 'é"\\/<>\t'} | tojson(sort_keys=true) }})", R"({"a": "é\"\\/<>\t", "b": 1})"},
      {"{{ 'é🙂' | tojson(ensure_ascii=true) }} {{ [1, 2] | tojson(separators=(',', ':')) }} {{ missing | tojson }}",
       "\"\\u00e9\\ud83d\\ude42\" [1,2] null"},
      {"{{ '\x01\x7f' | tojson }}", "\"\\u0001\x7f\""},
  });
}

TEST(JinjaStatements, LoopWithTheirVariables) {
  expect_all({
      {"{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ "
       "loop.length }}"
       "{{ loop.previtem }}/{{ loop.nextitem }};{% endfor %}",
       "10truefalse33/1;21falsefalse230/2;32falsetrue131/;"},
      {"{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}{% for k in {'a': 1} %}{{ k }}{% endfor "
       "%}",
       "a=1;b=2;a"},
      {"{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for c in 'hé' %}<{{ c }}>{% endfor %}",
       "123<h><é>"},
      {"{% for x in [] %}a{% else %}empty{% endfor %}{% for x in missing %}a{% else %}none{% endfor %}", "emptynone"},
      {"{% for x in [1, 2, 3] if x > 1 %}{{ x }}{{ loop.length }} {% endfor %}", "22 32 "},
      {"{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x "
       "}}{% endfor %}",
       "13"},
      {"{% for a in [1, 2] %}{% for b in [1, 2] %}{{ loop.depth }}{{ loop.index }}{% endfor %}{{ loop.index }} {% "
       "endfor %}",
       "21221 21222 "},
      {"{% for i in range(3) %}{{ loop.cycle('x', 'y') }}{% endfor %}", "xyx"},
      {"{% if false %}a{% elif 1 %}b{% else %}c{% endif %}", "b"},
  });
}

TEST(JinjaStatements, AssignInTheirScope) {
  expect_all({
      {"{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}", "1"},
      {"{% set ns = namespace(a=1) %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "4"},
      {"{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set d %}text {{ a }}{% endset %}[{{ d }}]", "12[text 1]"},
      {"{% set x | upper %}abc{% endset %}{{ x }}{% filter trim | upper %} de {% endfilter %}", "ABCDE"},
      {"{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}", "3false"},
      {"{% set l = [] %}{% set _ = l.append(1) %}{% set _ = l.append([2]) %}{{ l }}{{ l.pop(0) }}{{ l }}",
       "[1, [2]]1[[2]]"},
      {"{% set o = {'a': 1} %}{% set o.a = 2 %}",
       "error: chat template: line 1: cannot set 'o.a': only a namespace can be changed, and 'o' is a mapping"},
  });
}

TEST(JinjaStatements, CallMacros) {
  expect_all({
      {"{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}|{{ f(1, c=5) }}|{{ f(a=0) }}",
       "121|125|020"},
      {"{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, k=3) }}", "[1, 2]{\"k\": 3}"},
      {"{% macro wrap(t) %}<{{ t }}>{{ caller('x') }}</{{ t }}>{% endmacro %}{% call(v) wrap('b') %}in {{ v }}{% "
       "endcall %}",
       "<b>in x</b>"},
      {"{% macro r(n) %}{{ n }}{% if n > 0 %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(3) }}", "3210"},
      {"{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "error: chat template: line 1: f() takes 1 arguments, got 2"},
      {"{% macro f(a) %}{% endmacro %}{{ f(b=2) }}", "error: chat template: line 1: f() has no argument 'b'"},
      {"{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'b': 1, 'a': 2}) }}", "1221"},
  });
}

TEST(JinjaTests, TellKindsOfValues) {
  expect_all({
      {"{{ none is none }}{{ x is defined }}{{ x is not defined }}{{ 1 is number }}{{ true is number }}{{ 'a' is "
       "string }}",
       "truefalsetruetruefalsetrue"},
      {"{{ [] is sequence }}{{ {} is mapping }}{{ [1] is iterable }}{{ {} is iterable }}{{ 1 is integer }}{{ 1.0 is "
       "float }}",
       "truetruetruefalsetruetrue"},
      {"{{ true is true }}{{ 1 is true }}{{ false is false }}{{ 3 is odd }}{{ 4 is even }}{{ 'a' is lower }}{{ range "
       "is callable }}",
       "truefalsetruetruetruetruetrue"},
      {"{{ 6 is divisibleby(3) }}{{ 6 is divisibleby 4 }}{{ 1 is in [1, 2] }}{{ 'a' is eq 'a' }}{{ 3 is gt 2 }}{{ 3 is "
       "le(2) }}",
       "truefalsetruetruetruefalse"},
      {"{{ {'a': 1}.items is defined }}{{ {'a': 1}.foo is defined }}{{ {'items': [1]}.items }}{% for k, v in {'items': "
       "1}.items() %}{{ k }}{% endfor %}",
       "truefalse[1]items"},
  });
}

TEST(JinjaFilters, WorkOnLists) {
  expect_all({
      {"{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'c'] | sort }}{{ [3, 1, 2] | sort(reverse=true) }}{{ [{'a': 2}, {'a': 1}] "
       "| sort(attribute='a') }}",
       "[1, 2, 3][\"A\", \"b\", \"c\"][3, 2, 1][{\"a\": 1}, {\"a\": 2}]"},
      {"{{ {'b': 1, 'A': 2} | dictsort }}{{ {'b': 1, 'a': 2} | dictsort(by='value') }}{{ {10: 'x', 9: 'y'} | dictsort "
       "}}",
       "[[\"A\", 2], [\"b\", 1]][[\"b\", 1], [\"a\", 2]][[9, \"y\"], [10, \"x\"]]"},
      {"{{ [1, 2, 2, 'a', 'a'] | unique | list }}{{ [1, 2] | first }}{{ [1, 2] | last }}{{ [] | first }}{{ [1, 2] | "
       "reverse | list }}",
       "[1, 2, \"a\"]12[2, 1]"},
      {"{{ ['a', 'b'] | join(', ') }} {{ [1, none, 'x'] | join('-') }} {{ [{'n': 1}] | join(attribute='n') }}",
       "a, b 1--x 1"},
      {"{{ [{'n': 'a', 'v': 1}, {'n': 'b', 'v': 0}] | selectattr('v') | map(attribute='n') | list }}{{ none | "
       "selectattr('v') | list }}",
       "[\"a\"][]"},
      {"{{ [{'n': 'a'}, {'n': 'b'}] | rejectattr('n', 'equalto', 'a') | list }}{{ [{'n': {'m': 1}}, {}] | "
       "map(attribute='n.m', default='d') | list }}",
       "[{\"n\": \"b\"}][1, \"d\"]"},
      {"{{ [1, 2, 3, 4] | select('even') | list }}{{ [0, 1, ''] | select | list }}{{ [1, 2, 3] | reject('equalto', 2) "
       "| list }}{{ ['a'] | map('upper') | list }}",
       "[2, 4][1][1, 3][\"A\"]"},
      {"{{ [1, 2, 3] | sum }} {{ [1, 5, 3] | max }} {{ [4, 2] | min }} {{ [1, 2, 3] | batch(2) | list }} {{ {'a': 1} | "
       "items | list }}",
       "6 5 2 [[1, 2], [3]] [[\"a\", 1]]"},
  });
}

TEST(JinjaFilters, WorkOnTextAndNumbers) {
  expect_all({
      {"[{{ ' a b\xC2\xA0' | trim }}] {{ 'hello World' | capitalize }} {{ 'hello wORLD' | title }} {{ 'aß' | upper }} "
       "{{ 'ÀÉ' | lower }}",
       "[a b] Hello World Hello WORLD ASS àé"},
      {"{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(1, first=false, blank=true) }}",
       "a\n    b\n\n    c|  a\n  b|a\n \n b"},
      {"{{ x | default('d') }}{{ '' | default('d', true) }}[{{ none | default('d') }}]{{ 0 | default('e', "
       "boolean=true) }}[{{ x | default }}]",
       "dd[]e[]"},
      {"{{ '3' | int + 1 }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ '1.5' | float }} {{ 3.7 | int }} {{ true | int }} {{ "
       "'-7.9' | int }}",
       "4 0 5 1.5 3 1 -7"},
      {"{{ 2.567 | round(2) }} {{ 2.5 | round }} {{ 2.1 | round(0, 'ceil') }} {{ 'a b c' | wordcount }} {{ '<b>&' | e "
       "}} {{ '<b>' | safe }}",
       "2.57 2.0 3.0 3 &lt;b&gt;&amp; <b>"},
      {"{{ 'abab' | replace('ab', 'x', 1) }} {{ 'abc' | replace('', '-') }} {{ '%s is %d, %.2f|%5d|%-3s|' | "
       "format('B', 5, 1.5, 42, 'x') }}",
       "xab -a-b-c- B is 5, 1.50|   42|x  |"},
      {"{{ '{\"b\": [1, 2.5], \"a\": null}' | from_json }}{{ ('[1' | from_json) }}",
       "error: chat template: line 1: from_json: the string is no JSON"},
      {"{{ '{\"b\": [1, 2.5], \"a\": null}' | from_json }}", R"({"b": [1, 2.5], "a": null})"},
      {"{{ missing | length }}[{{ missing | trim }}]{{ missing | list }}", "0[][]"},
  });
}

TEST(JinjaMethods, AreThoseOfPython) {
  expect_all({
      {"{{ 'a,b,,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a b c d'.split(' ', 2) }}{{ 'a  b c'.split(none, 1) }}",
       R"(["a", "b", "", "c"]["a", "b"]["a", "b", "c d"]["a", "b c"])"},
      {"{{ 'a-b-c'.rsplit('-', 1) }}{{ ' a b c '.rsplit(none, 1) }}{{ 'aaa'.rsplit('aa') }}{{ 'a\nb\r\nc'.splitlines() "
       "}}",
       R"(["a-b", "c"][" a b", "c"]["a", ""]["a", "b", "c"])"},
      {"{{ 'aaa'.replace('a', 'b', 2) }} {{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'bc')) }} {{ "
       "'abc'.find('c') }} {{ 'abcabc'.count('bc') }}",
       "bba true true 2 2"},
      {"{{ 'xaxbx'.strip('x') }} [{{ ' a '.strip() }}] [{{ ' a '.lstrip() }}] [{{ ' a '.rstrip() }}] {{ "
       "'aXa'.lower().title() }}",
       "axb [a] [a ] [ a] Axa"},
      {"{{ '{}-{}'.format(1, 'b') }} {{ '{0}{1}{0} {{x}} {y}'.format('a', 'b', y=3) }} {{ ','.join(['a', 'b']) }} {{ "
       "'abc'.removeprefix('a') }}",
       "1-b aba {x} 3 a,b bc"},
      {"{{ {'a': 1}.get('a') }} {{ {'a': 1}.get('z', 'd') }} [{{ {}.get('z') }}] {{ {'a': 1}.keys() | list }} {{ {'a': "
       "1}.values() | list }}",
       "1 d [] [\"a\"] [1]"},
      {"{{ 'abc'.isdigit() }} {{ '12'.isdigit() }} {{ 'aB'.swapcase() }} {{ [1, 2, 1].count(1) }} {{ [1, 2].index(2) "
       "}}",
       "false true Ab 2 1"},
  });
}

// Python strips the given characters only; the prompts of @huggingface/jinja are what we reproduce.
TEST(JinjaMethods, StripAllWhitespaceWhenGivenSome) {
  expect_all({{"[{{ '\n\n  a \n'.strip('\n') }}][{{ '\n a'.lstrip('\n') }}][{{ 'a \n'.rstrip('\n') }}]", "[a][a][a]"}});
}

TEST(JinjaFunctions, MakeValues) {
  expect_all({
      {"{{ range(3) | list }}{{ range(1, 4) | list }}{{ range(5, 0, -2) | list }}{{ range(0) | list }}",
       "[0, 1, 2][1, 2, 3][5, 3, 1][]"},
      {"{{ dict(a=1) | tojson }}{{ dict({'b': 2}, a=1) }}{{ namespace(a=1).a }}{{ namespace({'b': 2}).b }}",
       R"({"a": 1}{"b": 2, "a": 1}12)"},
      {"{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{% set c = cycler('x', 'y') %}{{ c() }}{{ c() }}{{ c() }}",
       "a|bxyx"},
  });
}

TEST(JinjaErrors, NameTheLineAndTheThing) {
  expect_all({
      {"\n\n{{ 'a' | frobnicate }}", "error: chat template: line 3: unknown filter 'frobnicate'"},
      {"\n{{ 1 is frobnicated }}", "error: chat template: line 2: unknown test 'frobnicated'"},
      {"\n{{ frob(1) }}", "error: chat template: line 2: unknown function 'frob'"},
      {"{{ messages[0].content.frob() }}",
       "error: chat template: line 1: unknown method 'frob' of a string: 'messages[0].content' is a string"},
      {"{{ a.b.frob() }}", "error: chat template: line 1: cannot call 'frob': 'a.b' is undefined"},
      {"x\n{% if a %}\n{{ 'x' + a.b }}{% endif %}{{ 'x' + messages[0].name }}",
       "error: chat template: line 3: cannot compute a string + undefined ((...) is a string; 'messages[0].name' is "
       "undefined)"},
      {"{{ 'x' + messages }}",
       "error: chat template: line 1: cannot compute a string + a list ((...) is a string; 'messages' is a list)"},
      {"{{ 1 < 'a' }}",
       "error: chat template: line 1: cannot compare an integer with a string ((...) is an integer; (...) is a "
       "string)"},
      {"{% import 'os' as os %}", "error: chat template: line 1: the tag 'import' is not supported"},
      {"a\n{% if x %}\n", "error: chat template: line 2: the block that starts here has no {% endif %}"},
      {"{% endfor %}", "error: chat template: line 1: 'endfor' closes nothing"},
      {"{{ 1 +", "error: chat template: line 1: the tag that starts with {{ has no end"},
      {"{{ 'abc }}", "error: chat template: line 1: the string has no end"},
      {"a {# b", "error: chat template: line 1: the comment has no end"},
      {"{% raw %} x", "error: chat template: line 1: {% raw %} has no {% endraw %}"},
      {"{{ 1 $ 2 }}", "error: chat template: line 1: unexpected character '$'"},
      {"{{ 1 2 }}", "error: chat template: line 1: '}}' expected, got '2'"},
      {"{% break %}", "error: chat template: line 1: 'break' outside of a loop"},
      {"{{ range(1, 2, 0) }}", "error: chat template: line 1: range() with a step of 0"},
      {"{{ 1 // 0 }}", "error: chat template: line 1: division by zero"},
  });
}

}  // namespace
}  // namespace shoehorn::tokenizer
