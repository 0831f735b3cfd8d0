"""Bundles on the Hugging Face Hub: `hf://OWNER/NAME[@REVISION][/FILE.pose]`, by the hub's own client.

The client keeps what it downloads in its cache, and gives that where the hub cannot be reached. HF_TOKEN, HF_HOME,
HF_ENDPOINT and HF_HUB_OFFLINE mean what its documentation says. A signature beside the bundle comes along.
"""

from __future__ import annotations

import os
import re
from glob import escape
from pathlib import Path
from urllib.parse import unquote

from ..errors import BundleError, PosertError
from .signature import SUFFIX

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+\.pose))?")


def local_file(bundle: str | os.PathLike[str]) -> Path:
    """The path of a bundle; one on the hub is downloaded, unless the cache has it.

    Raises:
        BundleError: there is no such repository, revision or file, there are several bundles, access is not granted, or
            the hub cannot be reached and the cache does not have it.
        PosertError: huggingface_hub is not installed.
    """
    name = os.fspath(bundle)
    return _downloaded(name) if name.startswith(SCHEME) else Path(name)


def _downloaded(address: str) -> Path:
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise BundleError(f"{address}: expected hf://OWNER/NAME, with @REVISION and /FILE.pose where they are needed")
    try:
        from huggingface_hub import errors, model_info, snapshot_download
    except ModuleNotFoundError as error:
        raise PosertError(f'{address} needs the package huggingface_hub: pip install "posert[hf]"') from error
    repo, revision = parts["repo"], unquote(parts["revision"]) if parts["revision"] else None
    try:
        try:
            listed = [one.rfilename for one in model_info(repo, revision=revision).siblings or ()]
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
            raise
        except Exception as error:  # not reached: the client's libraries for HTTP share no exception
            return _kept(address, repo, revision, parts["file"], error)
        file = _chosen(address, parts["file"], listed)
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_patterns(file))) / file
    except errors.GatedRepoError as error:  # a kind of RepositoryNotFoundError
        page = f"https://huggingface.co/{repo}"
        raise BundleError(f"{address}: access is not granted: ask for it on {page}, then `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise BundleError(
            f"{address}: the hub has no model {repo}, or it is private: check the name, or `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BundleError(
            f"{address}: {repo} has no revision {revision!r}: give a branch, a tag or a commit"
        ) from error
    except errors.HFValidationError as error:
        raise BundleError(f"{address}: {error}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise BundleError(f"{address}: the download failed ({_told(error)}); try again") from error


def _kept(address: str, repo: str, revision: str | None, file: str | None, why: Exception) -> Path:
    """The copy in the client's cache, where the hub is not reached. Raises BundleError: there is none."""
    from huggingface_hub import errors, snapshot_download

    patterns = ["*.pose"] if file is None else _patterns(file)
    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=patterns))
    except (errors.HfHubHTTPError, OSError) as error:
        raise BundleError(
            f"{address}: the hub cannot be reached ({_told(why)}) and the cache does not have it ({_told(error)}); "
            "check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from error
    return folder / _chosen(address, file, [path.relative_to(folder).as_posix() for path in folder.rglob("*.pose")])


def _patterns(file: str) -> list[str]:
    return [escape(file), escape(file + SUFFIX)]


def _chosen(address: str, asked: str | None, files: list[str]) -> str:
    """The bundle that is meant. Raises BundleError: it is not there, or several could be."""
    bundles = sorted(file for file in files if file.endswith(".pose"))
    fitting = [file for file in bundles if asked in (None, file)]
    if len(fitting) == 1:
        return fitting[0]
    if not bundles:
        raise BundleError(f"{address}: no .pose file in it; it holds {', '.join(sorted(files)[:10]) or 'nothing'}")
    what = f"no {asked}" if asked else f"{len(bundles)} bundles"
    address = address.removesuffix(f"/{asked}")
    raise BundleError(f"{address}: {what} in it: name one of {', '.join(f'{address}/{file}' for file in bundles[:10])}")


def _told(error: Exception) -> str:
    """An exception in a line."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
