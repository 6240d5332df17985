"""Writes the first inputs of the fuzz targets into corpus/: small, made up, nobody's.

    python3 tests/fuzz/seeds.py

What a target then finds lies in target/fuzz/corpus. An input that showed a fault is added to corpus/ by hand.
"""

import base64
import io
import json
import pathlib
import struct
import zipfile
import zlib

HERE = pathlib.Path(__file__).parent
DATA = HERE.parent / "data"


def put(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def section(content):
    return struct.pack(">H", len(content)) + content


# pictures

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, row_bytes, extra=b""):
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(row_bytes)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pictures():
    put("picture", "grey.png", png(8, 8, 8, 0, 8))
    put("picture", "rgb.png", png(8, 6, 8, 2, 24))
    put("picture", "rgba-16.png", png(4, 4, 16, 6, 32))
    put("picture", "palette.png", png(8, 2, 4, 3, 4, chunk(b"PLTE", bytes(range(48)))))
    put("picture", "text.png", png(4, 4, 8, 0, 4, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"made up"))))
    put("picture", "binary.pgm", b"P5\n4 2\n255\n" + bytes(range(8)))
    put("picture", "binary.ppm", b"P6 2 2 255 " + bytes(range(12)))
    put("picture", "text.pbm", b"P1\n# a comment\n3 2\n1 0 1\n0 1 0\n")
    put("picture", "any.pam", b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(range(12)))
    for known in ["animated.png", "animated.webp", "cmyk.jpg"]:
        put("picture", known, (DATA / "pictures" / known).read_bytes())
    jpeg = (DATA / "pictures" / "cmyk.jpg").read_bytes()
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    put("picture", "turned.jpg", jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])


# checkpoints

def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def pickled_tensor(key, kind, elements, shape, strides):
    storage = b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text(key) + text("cpu") + number(elements) + b"tQ"
    axes = b"(" + b"".join(map(number, shape)) + b"t" + b"(" + b"".join(map(number, strides)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(0) + axes + b"\x89ccollections\nOrderedDict\n)RtR"


def pickled_dict(members):
    return b"}(" + b"".join(text(key) + value for key, value in members) + b"u"


def checkpoint_pickle(wrapped):
    tensors = pickled_dict([
        ("body.weight", pickled_tensor("0", b"FloatStorage", 6, [2, 3], [3, 1])),
        ("body.bias", pickled_tensor("1", b"LongStorage", 2, [2], [1])),
    ])
    whole = pickled_dict([("state_dict", tensors), ("epoch", number(3))]) if wrapped else tensors
    return b"\x80\x02" + whole + b"."


def checkpoint_zip(pickle):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [
            ("data.pkl", pickle),
            ("byteorder", b"little"),
            ("data/0", struct.pack("<6f", 1, 2, 3, 4, 5, 6)),
            ("data/1", struct.pack("<2q", 7, 8)),
            ("version", b"3\n"),
        ]:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return out.getvalue()


def checkpoint_legacy(pickle):
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    system = b"\x80\x02" + pickled_dict([("protocol_version", number(1001)), ("little_endian", b"\x88")]) + b"."
    keys = b"\x80\x02](" + text("0") + text("1") + b"e."
    storages = struct.pack("<q6f", 6, 1, 2, 3, 4, 5, 6) + struct.pack("<q2q", 2, 7, 8)
    return magic + b"\x80\x02M\xe9\x03." + system + pickle + keys + storages


def safetensors(tensors):
    head, body = {"__metadata__": {"made": "up"}}, b""
    for name, dtype, shape, content in tensors:
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    head = json.dumps(head).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + body


SAFETENSORS = safetensors([("body.weight", "F32", [2, 2], struct.pack("<4f", 1, 2, 3, 4)), ("n", "I64", [], b"\1" + bytes(7))])


def checkpoints():
    for wrapped, name in [(False, "plain"), (True, "wrapped")]:
        pickle = checkpoint_pickle(wrapped)
        put("checkpoint", f"{name}.zip", checkpoint_zip(pickle))
        put("checkpoint", f"{name}-legacy.pt", checkpoint_legacy(pickle))
    put("checkpoint", "plain.safetensors", SAFETENSORS)
    put("checkpoint", "half.safetensors", safetensors([("a", "BF16", [3], bytes(6)), ("b", "F16", [0, 4], b"")]))


# packages

WORDS = """version = "1"
licence = "CC0-1.0"
provenance = "Made up."
source = "here"
intended_use = "Tests."
not_for = "People."
"""
FILE = """
[[weights]]
file = "weights.safetensors"
sha256 = "SHA256"
"""
PICTURE = """
[preprocessing]
kind = "image"
width = 128
height = 256
colour = "rgb"
scale = "unit"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
resize = "bilinear"
mirror = false
"""


def packages():
    head = 'id = "a"\nmodality = "%s"\ntask = "%s"\narchitecture = "%s"\n' + WORDS
    encoder = 'metric = "cosine"\ndimension = %d\n'
    walker = '\n[preprocessing]\nkind = "skeleton"\nframes = 60\nbody_height_px = 110.0\ncentre = "hips"\n'
    manifests = {
        "person": head % ("person", "encoder", "osnet-x0.25") + encoder % 512 + FILE + PICTURE,
        "gait": head % ("gait", "encoder", "gait-tcn-60") + encoder % 128 + FILE + walker,
        "detector": head % ("face", "detector", "mtcnn") + FILE + '\n[detection]\nface_px_min = 20\nthresholds = [0.6, 0.7, 0.7]\npyramid_factor = 0.709\n',
        "pad": head % ("face", "pad", "minifasnet") + FILE,
        "entry": head % ("person", "encoder", "osnet-x0.25") + encoder % 512 + FILE + 'entry = "state_dict"\nstrip_prefix = "body."\nignored_prefixes = ["head."]\nadd_prefix = "x."\n' + PICTURE,
        "program": (DATA / "torchscript-tiny" / "model.toml").read_text(),
    }
    manifests["program"] = manifests["program"].split("sha256")[0] + 'sha256 = "SHA256"\n' + PICTURE.replace("128", "8").replace("256", "16")
    for name, manifest in manifests.items():
        put("model_package", name, section(manifest.encode()) + SAFETENSORS)


# snapshots

def snapshots():
    uid = "00000000-0000-0000-0000-000000000004"
    space = {"modality": "face", "digest": "01" * 32, "dimension": 4, "parts": 1}
    names = ["anna", "bert", "carl"]
    entry = lambda name: json.dumps({"id": name, "labels": {"site": "north"}, "expire_time": None, "provisional": False})
    for count, key in [(0, None), (3, "provisional"), (3, "erased")]:
        spaces = [{"space": space, "provisional": False, "file": "0.rows", "rows": count}] if count else []
        manifest = {"version": 2, "uid": uid, "position": 7, "entry_checksum": 5, "slots": count, "spaces": spaces}
        lines = [entry(name) for name in names[:count]]
        owners = list(range(count))
        if key == "erased":
            lines[1] = "-" * 40
        values = b"".join(struct.pack("<4f", *[float(row == axis) for axis in range(4)]) for row in range(count))
        table = b"".join(bytes(15) + bytes([row + 1]) + struct.pack("<If", row, 0.5) + bytes(8) for row in owners)
        order = struct.pack(f"<{count}I", *owners)
        rows = struct.pack("<IQ", 4, count) + values + table + order
        roster = "".join(line + "\n" for line in lines)
        content = section(json.dumps(manifest).encode() + b"\n") + section(roster.encode()) + rows
        put("gallery_snapshot", f"{key or 'empty'}", content)


# walks

def frame(step):
    return [round(value, 1) for joint in range(17) for value in (100 + joint + step, 50 + 9 * joint, 0.9)]


def walks():
    walk = lambda **more: json.dumps([{"keypoints": frame(step), **more} for step in range(6)]).encode()
    put("skeleton", "coco.json", walk())
    put("skeleton", "alphapose.json", walk(image_id="1.jpg", score=2.5, box=[1, 2, 3, 4], idx=1, category_id=1))
    put("skeleton", "holes.json", walk().replace(b"100.0, 50.0, 0.9", b"0, 0, 0"))
    put("skeleton", "openpose.json", json.dumps({"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": frame(0) + frame(1)[:24]}]}).encode())
    put("skeleton", "mmpose.json", json.dumps({"meta_info": {}, "instance_info": [{"frame_id": 1, "instances": [{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1] * 17}]}]}).encode())
    put("skeleton", "coco-results.json", json.dumps({"annotations": [{"keypoints": frame(0), "image_id": 3, "track_id": 1}]}).encode())


# filters

def filters():
    put("filter", "and-or", b'labels.site = "north" AND (labels.role != "guest" OR labels.vip = "yes")')
    put("filter", "escapes", b'labels.a="\\"x\\\\"')
    put("filter", "deep", b'(((labels.a = b OR ((labels.b != "")))))')


# requests; a byte chooses the route or method, in the order of the contract

EMBEDDING = {"modality": "face", "embedding": {"model": "cam", "values": [1, 0, 0.5, -2]}}


def requests():
    bodies = {
        "embedding": {"samples": [EMBEDDING], "labels": {"site": "north"}, "requestId": "r", "modality": "face"},
        "image": {"samples": [{"modality": "face", "image": {"data": base64.b64encode(b"made up").decode()}, "landmarks": [1] * 10, "box": [0, 0, 9, 9], "alignment": "detect", "faceSelection": "largest"}]},
        "walk": {"samples": [{"modality": "gait", "skeleton": {"frames": [{"keypoints": frame(0)}] * 2}}]},
        "track": {"samples": [{"modality": "person", "track": {"frames": [{"image": {"data": "AAAA"}, "box": [1, 1, 2, 2]}]}, "prompts": [{"keypoints": [1, 2, 3], "negative": True}]}]},
        "search": {"samples": [EMBEDDING], "topK": 5, "filter": 'labels.a = "b"', "minSimilarity": 0.5, "consistencyToken": "AaIjiFpBfVKLDl2LTA96EQAAAAAAAAAF"},
        "policy": {"collectionId": "a", "collection": {"displayName": "A", "policy": {"targetFpir": 0.01, "quality": {"scoreMin": 0.1}, "pooling": {"mode": "best", "best": 3}, "identityTtlSeconds": "60"}}},
        "identity": {"labels": {"a": "b"}, "expireTime": "2030-01-01T00:00:00.5Z", "etag": '"3"'},
        "merge": {"target": "collections/a/identities/b", "sources": ["collections/a/identities/c"], "labels": "fill"},
        "frames": [{"keypoints": frame(0)}] * 2,
    }
    for name, body in bodies.items():
        encoded = json.dumps(body).encode()
        for route in range(0, 64, 16 if name == "embedding" else 40):
            put("rest_body", f"{name}-{route}", bytes([route, 0]) + encoded)
    put("rest_body", "picture", bytes([20, 2]) + png(2, 2, 8, 0, 2))
    put("rest_body", "part", bytes([20, 3]) + json.dumps(bodies["frames"]).encode())


def field(number, content):
    return bytes([number << 3 | 2, len(content)]) + content


def messages():
    embedding = b"\x08\x01" + field(4, field(1, b"cam") + field(2, struct.pack("<2f", 1, 2)))
    picture = b"\x08\x01" + field(2, field(1, b"made up")) + field(5, struct.pack("<10f", *range(10)))
    name, collection = b"collections/a/identities/b", b"collections/a"
    label = field(3, field(1, b"site") + field(2, b"north"))
    time = field(3, b"\x08\x80\x80\x80\x80\x06\x10\x05")
    requests = {
        "enroll": field(1, name) + field(2, embedding) + field(2, picture) + label + field(6, b"r"),
        "identity": field(1, field(1, name) + time + field(4, b'"3"')) + field(2, field(1, b"expire_time")),
        "list": field(1, collection) + b"\x10\x05" + field(4, b'labels.a = "b"'),
        "create": field(1, b"a") + field(2, field(4, b"\x09" + struct.pack("<d", 0.01))),
        "merge": field(1, collection) + field(2, name) + field(3, name + b"c"),
    }
    for kind, content in requests.items():
        for method in range(0, 64, 16):
            put("protobuf", f"{kind}-{method}", bytes([method]) + content)


for write in [pictures, checkpoints, packages, snapshots, walks, filters, requests, messages]:
    write()
