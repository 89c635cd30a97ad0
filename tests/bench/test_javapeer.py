"""The jars of Java ZooKeeper, and what its servers are started with; that they start, the interop tests show."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tools import javapeer
from tools.javapeer import JARS_380, JavaServer, JavaUnavailable, classpath, extract_jars, why_missing


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).write_bytes(b"")


def test_380_is_debians_jar_with_the_backends_it_does_not_name(tmp_path: Path) -> None:
    touch(tmp_path, "zookeeper-3.8.0.jar", *(f"{name}.jar" for name in JARS_380))
    found = [Path(jar).name for jar in classpath("3.8.0", debian=tmp_path)]
    assert found[:2] == ["zookeeper.jar", "zookeeper-jute.jar"]
    assert "slf4j-simple.jar" in found


def test_380_is_refused_when_debian_has_another_version(tmp_path: Path) -> None:
    touch(tmp_path, "zookeeper-3.9.4.jar", "zookeeper.jar")
    with pytest.raises(JavaUnavailable, match="libzookeeper-java"):
        classpath("3.8.0", debian=tmp_path)


def test_380_names_the_jars_that_are_missing(tmp_path: Path) -> None:
    touch(tmp_path, "zookeeper-3.8.0.jar", *(f"{name}.jar" for name in JARS_380 if name != "slf4j-simple"))
    with pytest.raises(JavaUnavailable, match=r"slf4j-simple\.jar$"):
        classpath("3.8.0", debian=tmp_path)


def test_393_is_all_that_was_fetched(tmp_path: Path) -> None:
    touch(tmp_path, "zookeeper-3.9.3.jar", "netty-common-4.1.118.Final.jar", "readme.txt")
    assert [Path(jar).name for jar in classpath("3.9.3", jars_39=tmp_path)] == [
        "netty-common-4.1.118.Final.jar",
        "zookeeper-3.9.3.jar",
    ]


def test_393_that_was_not_fetched_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(JavaUnavailable, match=r"javapeer\.py fetch"):
        classpath("3.9.3", jars_39=tmp_path)


def test_unknown_versions_are_refused() -> None:
    with pytest.raises(JavaUnavailable, match="unknown version 4"):
        classpath("4")


def test_missing_java_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_missing("3.8.0") == "no java on PATH and JAVA_HOME is not set"


def test_java_home_goes_before_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert javapeer.java_command() == str(java)


def test_extract_takes_the_jars_a_server_needs_and_no_others(tmp_path: Path) -> None:
    package = tmp_path / "pyspark.tar.gz"
    with tarfile.open(package, "w:gz") as tar:
        for name in ("deps/jars/zookeeper-3.9.3.jar", "deps/jars/spark-core.jar", "deps/bin/zookeeper-3.9.3.jar", "x/"):
            member = tarfile.TarInfo(f"pyspark-4.0.1/{name}")
            member.size = 4
            tar.addfile(member, io.BytesIO(b"jar!"))
    dest = tmp_path / "jars"
    dest.mkdir()
    assert extract_jars(package, dest) == [dest / "zookeeper-3.9.3.jar"]
    assert [(path.name, path.read_bytes()) for path in dest.iterdir()] == [("zookeeper-3.9.3.jar", b"jar!")]


@pytest.fixture
def jars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(javapeer, "classpath", lambda version: [f"/{version}.jar", "/other.jar"])
    monkeypatch.setattr(javapeer, "java_command", lambda: "/bin/java")


@pytest.mark.usefixtures("jars")
def test_command_has_properties_and_arguments_in_place(tmp_path: Path) -> None:
    props = {"zookeeper.snapCount": "7", "zookeeper.admin.enableServer": "true"}
    server = JavaServer("3.9.3", tmp_path, 1234, props, jvm_args=["-Xmx1g"], cpu=0)
    command = server.command()
    server.close()
    assert command[:5] == ["taskset", "-c", "0", "/bin/java", "-Xmx1g"]
    assert {"-Dzookeeper.snapCount=7", "-Dzookeeper.admin.enableServer=true"} < set(command)
    assert "-Dzookeeper.admin.enableServer=false" not in command
    assert command[-4:-1] == ["-cp", "/3.9.3.jar:/other.jar", "org.apache.zookeeper.server.quorum.QuorumPeerMain"]


def test_configuration_has_defaults_that_can_be_overridden(tmp_path: Path) -> None:
    server = JavaServer("3.9.3", tmp_path, 1234, cfg={"tickTime": "100", "server.1": "h:1:2"}, sid=1)
    lines = server._zoo_cfg().splitlines()
    server.close()
    assert {"tickTime=100", f"dataDir={tmp_path}", "clientPort=1234", "server.1=h:1:2", "initLimit=10"} < set(lines)
    assert "tickTime=2000" not in lines


def test_closing_removes_only_what_was_temporary(tmp_path: Path) -> None:
    server = JavaServer("3.9.3", tmp_path, 1234)
    assert server.scratch.exists()
    server.close()
    assert not server.scratch.exists()
    assert tmp_path.exists()


@pytest.mark.usefixtures("jars")
def test_a_server_that_dies_at_once_fails_with_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho no such collector\nexit 3\n")
    java.chmod(0o755)
    monkeypatch.setattr(javapeer, "java_command", lambda: str(java))
    with pytest.raises(javapeer.JavaFailed, match=r"exited with 3:\nno such collector"), JavaServer("3.9.3"):
        pass
