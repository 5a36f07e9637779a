# The tables of "quantize ladder" as a picture: KL divergence (logarithmic) over the size of the file, a line per series.
# Rows are "| NAME | bytes | perplexity | KL ± error | ..."; the series of "Q4_K_M, imatrix" is what follows its first comma.
BEGIN { FS = " *\\| *" }
$3 ~ /^[0-9]+$/ {
  name = $2
  if (name ~ /^llama\.cpp/) series = "llama.cpp, importance matrix"
  else if (name ~ /^types chosen/) series = "types chosen, gptq"
  else series = "named mixes, importance matrix"
  split($5, kl, " ")
  n++; of[n] = series; bytes[n] = $3; value[n] = kl[1]
  label[n] = name; sub(/^llama\.cpp /, "", label[n]); sub(/,.*/, "", label[n])
  if (!(series in seen)) { seen[series] = ++n_series; order[n_series] = series }
  if (n == 1 || bytes[n] < low) low = bytes[n]
  if (n == 1 || bytes[n] > high) high = bytes[n]
  if (n == 1 || value[n] < least) least = value[n]
  if (n == 1 || value[n] > most) most = value[n]
}
function x(b) { return 70 + (b - low) / (high - low) * 600 }
function y(v) { return 30 + (log(most) - log(v)) / (log(most) - log(least)) * 350 }
END {
  split("#0072b2 #d55e00 #009e73", colour, " ")
  print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 450\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"KL divergence over file size\">"
  print "<style>text{fill:#222}.grid{stroke:#ccc}@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}</style>"
  for (e = -5; e <= 1; ++e) for (m = 1; m <= 5; m = m == 1 ? 2 : m == 2 ? 5 : 10) {
    v = m * 10 ^ e
    if (v < least || v > most) continue
    printf "<line class=\"grid\" x1=\"70\" x2=\"670\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"62\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", y(v), y(v), y(v) + 4, v
  }
  for (mib = 1; mib <= high / 1048576; ++mib) if (mib * 1048576 >= low)
    printf "<line class=\"grid\" y1=\"30\" y2=\"380\" x1=\"%.1f\" x2=\"%.1f\"/><text x=\"%.1f\" y=\"398\" text-anchor=\"middle\">%d MiB</text>\n", x(mib * 1048576), x(mib * 1048576), x(mib * 1048576), mib
  for (s = 1; s <= n_series; ++s) {
    line = ""
    count = 0
    for (i = 1; i <= n; ++i) if (of[i] == order[s]) at[++count] = i
    for (i = 2; i <= count; ++i) for (j = i; j > 1 && bytes[at[j]] < bytes[at[j - 1]]; --j) { t = at[j]; at[j] = at[j - 1]; at[j - 1] = t }
    for (i = 1; i <= count; ++i) line = line sprintf("%.1f,%.1f ", x(bytes[at[i]]), y(value[at[i]]))
    printf "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"%s\"/>\n", colour[s], line
    for (i = 1; i <= count; ++i) printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"><title>%s: %d bytes, KL %s</title></circle>\n", x(bytes[at[i]]), y(value[at[i]]), colour[s], label[at[i]], bytes[at[i]], value[at[i]]
    printf "<rect x=\"%d\" y=\"420\" width=\"14\" height=\"4\" fill=\"%s\"/><text x=\"%d\" y=\"427\">%s</text>\n", 70 + (s - 1) * 235, colour[s], 90 + (s - 1) * 235, order[s]
  }
  print "<text x=\"70\" y=\"12\">mean KL divergence to the F16 file, nats</text>"
  print "</svg>"
}
