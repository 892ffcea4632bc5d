"""XLIFF, TMX and .resx: what has no translation gets one, and nothing else changes."""

from pathlib import Path

import pytest

from runtime.errors import RequestError
from runtime.text.pairs import Pair
from runtime.translate.documents import open_document
from tests.runtime.documents.splicing import DE, check, texts_of, translated, upper

ONE = """<?xml version="1.0" encoding="utf-8"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
  <file original="a" source-language="en"{language} datatype="plaintext">
    <header><note>stays</note></header>
    <body>
      <trans-unit id="1">
        <source>save <g id="1">the <x id="2"/> file</g> now &amp; <ph id="3">&lt;br&gt;</ph></source>{one}
        <note>a note</note>
      </trans-unit>
      <trans-unit id="2" translate="no"><source>brand</source></trans-unit>
      <group translate="no"><trans-unit id="3"><source>brand</source></trans-unit></group>
      <trans-unit id="4"><source>done</source><target state="final">fertig</target></trans-unit>
      <trans-unit id="5"><source>empty</source>{two}</trans-unit>
      <trans-unit id="6"><source>again</source><target state="{state}">{three}</target></trans-unit>
      <trans-unit id="7"><source>whole. parts</source><seg-source><mrk mtype="seg">whole.</mrk></seg-source>{four}</trans-unit>
      <trans-unit id="8"><source>by <mrk mtype="protected">brand</mrk> itself</source>{five}</trans-unit>
      <trans-unit id="9"><source/></trans-unit>
    </body>
  </file>
</xliff>
"""
OPEN, CLOSE = '<target state="needs-review-translation">', "</target>"


def test_xliff_1_gets_targets() -> None:
    source = ONE.format(language="", one="", two="<target/>", state="new", three="again", four="", five="").encode()
    done = upper(source, "x.xlf", DE).decode()
    assert done == ONE.format(
        language=' target-language="de"',
        one=f'\n        {OPEN}SAVE <g id="1">THE <x id="2"/> FILE</g> NOW &amp; <ph id="3">&lt;br&gt;</ph>{CLOSE}',
        two="<target>EMPTY</target>",
        state="needs-review-translation",
        three="AGAIN",
        four=f"{OPEN}WHOLE. PARTS{CLOSE}",
        five=f'{OPEN}BY <mrk mtype="protected">brand</mrk> ITSELF{CLOSE}',
    )
    assert translated(done.encode(), "x.xlf", str.lower, DE) == done.encode()  # nothing is left to do


TWO = """<?xml version="1.0"?>
<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en"{language}>
  <file id="f"><notes><note>stays</note></notes>
    <unit id="1">
      <originalData><data id="d">&lt;b&gt;</data></originalData>
      <segment state="{state}">
        <source>save <pc id="1">the file</pc>. <ph id="2" dataRef="d"/></source>{one}
      </segment>
      <ignorable><source> stays </source></ignorable>
      <segment><source>two <sc id="3"/>more<ec startRef="3"/></source>{two}</segment>
    </unit>
    <unit id="2" translate="no"><segment><source>brand</source></segment></unit>
    <unit id="3"><segment><source>done</source><target>fertig</target></segment></unit>
  </file>
</xliff>
"""


def test_xliff_2_gets_targets() -> None:
    source = TWO.format(language="", state="initial", one="", two="<target></target>").encode()
    assert upper(source, "x.xliff", DE).decode() == TWO.format(
        language=' trgLang="de"',
        state="translated",
        one='\n        <target>SAVE <pc id="1">THE FILE</pc>. <ph id="2" dataRef="d"/></target>',
        two='<target>TWO <sc id="3"/>MORE<ec startRef="3"/></target>',
    )


def test_a_translation_into_another_language_stays() -> None:
    source = ONE.format(
        language=' target-language="fr"', one="", two="", state="new", three="x", four="", five=""
    ).encode()
    with pytest.raises(RequestError, match="translation into fr"):
        open_document(Path("x.xlf"), source, DE)


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en" creationtool="x"/><body>
  <tu tuid="1"><prop type="x">stays</prop>
    <tuv xml:lang="en-US"><seg>save <bpt i="1">&lt;b&gt;</bpt>the file<ept i="1">&lt;/b&gt;</ept>.</seg></tuv>{one}
  </tu>
  <tu><tuv xml:lang="en"><seg>done</seg></tuv><tuv xml:lang="de"><seg>fertig</seg></tuv></tu>
  <tu><tuv xml:lang="fr"><seg>bonjour</seg></tuv></tu>
  <tu><tuv xml:lang="EN"><seg>empty <hi>one</hi></seg></tuv><tuv xml:lang="DE"><seg>{two}</seg></tuv></tu>
</body></tmx>
"""


def test_tmx_gets_variants() -> None:
    done = upper(TMX.format(one="", two="").encode(), "x.tmx", DE).decode()
    variant = '<tuv xml:lang="de"><seg>SAVE <bpt i="1">&lt;b&gt;</bpt>THE FILE<ept i="1">&lt;/b&gt;</ept>.</seg></tuv>'
    assert done == TMX.format(one=f"\n    {variant}", two="EMPTY <hi>ONE</hi>")


RESX = """<?xml version="1.0" encoding="utf-8"?>
<root>
  <!-- a comment -->
  <xsd:schema id="root" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><xsd:element name="root"/></xsd:schema>
  <resheader name="resmimetype"><value>text/microsoft-resx</value></resheader>
  <data name="save" xml:space="preserve"><value>‹save› {0} ‹now›</value><comment>stays</comment></data>
  <data name="lines" xml:space="preserve"><value>‹one›
  ‹two› &lt; ‹three›</value></data>
  <data name="picture" mimetype="application/x-microsoft.net.object.bytearray.base64"><value>aGVsbG8gd29ybGQ=</value></data>
  <data name="size" type="System.Drawing.Size, System.Drawing"><value>one, two</value></data>
  <data name="file" type="System.Resources.ResXFileRef"><value>a.png;System.Byte[]</value></data>
  <data name="&gt;&gt;button.Name" xml:space="preserve"><value>button</value></data>
  <metadata name="x"><value>stays</value></metadata>
  <data name="empty"><value /></data>
</root>
"""


def test_resx_keeps_types_and_base64() -> None:
    check(RESX, "x.resx")


def test_a_cdata_section_is_text() -> None:
    source = b'<xliff><file source-language="en"><trans-unit><source><![CDATA[a <b>c</b>]]></source></trans-unit></file></xliff>'
    assert texts_of(open_document(Path("x.xlf"), source, DE)) == ["a <b>c</b>"]
    assert b"&lt;b&gt;C&lt;/b&gt;</target>" in upper(source, "x.xlf", Pair("en", "de"))


@pytest.mark.parametrize("name", ["x.xlf", "x.tmx", "x.resx"])
@pytest.mark.parametrize(
    "data", [b"<xliff>", b"<other/>", b"", b"\xff\xfe", b'<!DOCTYPE a [<!ENTITY b "c">]><tmx>&b;</tmx>']
)
def test_a_damaged_file_is_one_sentence(name: str, data: bytes) -> None:
    with pytest.raises(RequestError, match=r"^x\."):
        open_document(Path(name), data, DE)
