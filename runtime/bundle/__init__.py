"""The pose bundle: one `.pose` file with the network in several precisions, its contract and its accuracy.

What a later posert promises about bundles (`manifest.py` has the numbers):

- It opens every bundle of this schema and of older ones. A field that an older bundle lacks takes the default that its
  dataclass documents (`Contract`, `Artifact`), which is what older versions did without the field.
- Whatever an older posert must not ignore raises the schema's number. A bundle with a higher number is refused, with
  the version to install, which the manifest's `requires` states.
- So other fields that this posert does not know only inform: they are ignored, except in the contract, on which the
  keypoints depend. There they are refused.
"""

__all__: list[str] = []
