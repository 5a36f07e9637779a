# `shoehorn bench --profile -o json` of a model with R4 and few layers: a row of the transform's share. Layers alone count, as if there were no
# embedding and no output matrix: of a whole model the share is smaller.
.[0].profile
| map(select(.op as $op | ["embedding", "output norm", "output matrix"] | index($op) | not)) as $layers
| ($layers | map(.ms) | add) as $all
| ($layers | map(select(.op == "mlp hadamard"))[0]) as $transform
| "| \($ff) | \($transform.ms / $transform.calls * 1e5 | round / 1e2) µs | \($transform.ms / $all * 1e4 | round / 1e2) % |"
