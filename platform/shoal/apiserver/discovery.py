"""What there is: the discovery documents kubectl and the clients read before anything else. Pure."""

from __future__ import annotations

from typing import Any

from shoal.apiserver.kinds import Kinds, Served

AGGREGATED = "apidiscovery.k8s.io"
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_SUB_VERBS = ("get", "patch", "update")
# The Kubernetes minor version whose behaviour this server follows; kubectl picks itself by it.
KUBERNETES_MINOR = "32"

_REVIEWS = (
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview"),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"),
)


def version() -> dict[str, str]:
    """Return the body of `/version`."""
    git = f"v1.{KUBERNETES_MINOR}.0+shoal"
    return {"major": "1", "minor": KUBERNETES_MINOR, "gitVersion": git, "platform": "linux/amd64"}


def core_versions() -> dict[str, Any]:
    """Return the plain body of `/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_versions(kinds: Kinds) -> list[tuple[str, str]]:
    """Return every (group, version) this server announces."""
    reviews = [(group, version) for group, version, *_ in _REVIEWS]
    return list(dict.fromkeys([*kinds.group_versions(), *reviews]))


def groups(kinds: Kinds) -> dict[str, Any]:
    """Return the plain body of `/apis`."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(kinds, name) for name in _group_names(kinds)]}


def group(kinds: Kinds, name: str) -> dict[str, Any]:
    """Return the plain body of `/apis/GROUP`."""
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version} for g, version in group_versions(kinds) if g == name
    ]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions, "preferredVersion": versions[0]}


def resources(kinds: Kinds, group_name: str, version_name: str) -> dict[str, Any]:
    """Return the plain body of `/apis/GROUP/VERSION`."""
    listed: list[dict[str, Any]] = []
    for kind in kinds.all:
        if (kind.group, kind.version) == (group_name, version_name):
            listed += _plain(kind)
    for g, v, plural, singular, name in _REVIEWS:
        if (g, v) == (group_name, version_name):
            listed.append(
                {"name": plural, "singularName": singular, "namespaced": False, "kind": name, "verbs": ["create"]}
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version_name}" if group_name else version_name,
        "resources": listed,
    }


def aggregated(kinds: Kinds, *, core: bool) -> dict[str, Any]:
    """Return the aggregated form of `/api` (core) or `/apis`."""
    names = [""] if core else _group_names(kinds)
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [_version_item(kinds, g, v) for g, v in group_versions(kinds) if g == name],
        }
        for name in names
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": f"{AGGREGATED}/v2", "metadata": {}, "items": items}


def _group_names(kinds: Kinds) -> list[str]:
    return list(dict.fromkeys(group for group, _ in group_versions(kinds) if group))


def _subresources(kind: Served) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    own = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    found: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
    if kind.has_status:
        found.append(("status", own, _SUB_VERBS))
    if kind.has_scale:
        found.append(("scale", {"group": "autoscaling", "version": "v1", "kind": "Scale"}, _SUB_VERBS))
    if kind.resource == "/pods":
        found.append(("log", own, ("get",)))
    if kind.resource == "/services":
        found.append(("proxy", {"group": "", "version": "v1", "kind": "ServiceProxyOptions"}, ("create", "get")))
    return found


def _plain(kind: Served) -> list[dict[str, Any]]:
    own: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        own["shortNames"] = list(kind.short_names)
    if kind.categories:
        own["categories"] = list(kind.categories)
    subs = [
        {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            **gvk,
            "verbs": list(verbs),
        }
        for name, gvk, verbs in _subresources(kind)
    ]
    return [own, *subs]


def _version_item(kinds: Kinds, group_name: str, version_name: str) -> dict[str, Any]:
    listed = [_item(kind) for kind in kinds.all if (kind.group, kind.version) == (group_name, version_name)]
    listed += [
        {
            "resource": plural,
            "responseKind": {"group": g, "version": v, "kind": name},
            "scope": "Cluster",
            "singularResource": singular,
            "verbs": ["create"],
        }
        for g, v, plural, singular, name in _REVIEWS
        if (g, v) == (group_name, version_name)
    ]
    return {"version": version_name, "resources": listed, "freshness": "Current"}


def _item(kind: Served) -> dict[str, Any]:
    body: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        body["shortNames"] = list(kind.short_names)
    if kind.categories:
        body["categories"] = list(kind.categories)
    if subs := _subresources(kind):
        body["subresources"] = [
            {"subresource": name, "responseKind": gvk, "verbs": list(verbs)} for name, gvk, verbs in subs
        ]
    return body
