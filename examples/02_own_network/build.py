"""Bundle a network that is in memory."""

from network import trained

from posert.export import build
from posert.runtime import Contract

MOUSE = "tests/goldens/mirror_mouse"

built = build(
    trained(),
    Contract.from_file("out/02/contract.json"),
    output="out/02/module.pose",
    name="mouse_net",
    labels=(f"{MOUSE}/test.json", f"{MOUSE}/images"),
)
for row in built.parity.rows:
    print(f"{row.backend:12} {row.precision:6} {row.verdict}")
print(built.parity.verdict, built.path)
